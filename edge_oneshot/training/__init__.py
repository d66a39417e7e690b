"""Training: encoder, objective, augmentation, the loop, and the run that it leaves."""
