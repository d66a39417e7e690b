"""Pack a bundle: golden images and self-test, provenance, signature, and the file."""
