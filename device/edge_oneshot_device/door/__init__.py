"""The door: from a camera's frames to a lock that opens for the right people."""
