"""The state folder: where it is, who owns it, what is in it, and how to open what is in use."""
