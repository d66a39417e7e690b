"""Measure the latency of a bundle on a machine, and compare two runs."""
