"""The Edge TPU: predict what its compiler does with a file, and run the compiler."""
