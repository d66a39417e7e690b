"""The face encoder: weights and detector from installed packages, as a bundle."""
