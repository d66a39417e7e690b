"""The demo: every stage from training to the device, on generated drawings."""
