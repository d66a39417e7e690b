"""Data sets: Omniglot, generated glyphs and speech, LFW, Speech Commands, and folders with one folder per identity."""
