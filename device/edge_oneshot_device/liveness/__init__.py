"""The active challenge: a face is followed through the actions that it is asked for."""
