"""Data sets: Omniglot, generated glyphs, LFW, and folders with one folder of images per identity."""
