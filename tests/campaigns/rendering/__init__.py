"""Sequences of a face before a camera, rendered: a head in three dimensions, or a photo of one on a sheet."""
