"""Faces: detection in a photo, alignment to the encoder's chip, and the quality gate."""
