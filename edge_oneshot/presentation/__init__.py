"""What a person reads of the workstation's program: help, progress on stderr, results as text."""
