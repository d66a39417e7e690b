"""The bundle: the file that export writes and the device reads, and the checks on opening it."""
