"""Putting a bundle in use, and going back to the one before it."""
