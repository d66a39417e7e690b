"""Faces: found in a photo, aligned to the encoder's chip."""
