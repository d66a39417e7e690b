"""The demos: every stage from training to the device, on generated drawings; and a door at work."""
