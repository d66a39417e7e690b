"""What an encoder is worth: tasks, rates with their intervals, drift, thresholds."""
