"""The report of a training and of what it exported, as one HTML file."""
