"""The state folder: where it is, whose it is, what is in it, and opening what is in use."""
