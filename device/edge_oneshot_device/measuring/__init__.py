"""What a bundle costs on a machine, and whether two runs can be compared."""
