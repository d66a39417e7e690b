"""What `doctor` finds: whether the door works, and what the machine has for it."""
