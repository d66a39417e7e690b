"""Attacks by somebody who can write in the state folder but has no key, and whether the door still holds."""
