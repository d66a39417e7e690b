"""What `doctor` checks: whether the door works, and what the machine provides for it."""
