"""Training: options, encoder, objectives, augmentation, the loop, and the run folder."""
