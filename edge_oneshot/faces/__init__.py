"""The face encoder: its weights and detectors from installed packages, its further training, and its bundle."""
