"""The Edge TPU: what its compiler would do with a file, and what it did."""
