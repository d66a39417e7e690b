"""Evaluate an encoder: one-shot tasks, error rates with intervals, drift, calibration."""
