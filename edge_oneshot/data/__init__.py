"""Data sets: Omniglot, folders of folders, and the glyphs that are always there."""
