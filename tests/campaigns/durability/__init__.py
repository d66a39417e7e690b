"""What becomes of a gallery that is killed, that loses its power, whose disk fails, and that many write at once."""
