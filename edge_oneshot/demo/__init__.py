"""The demo: the whole way on the glyphs."""
