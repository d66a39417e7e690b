"""Made-up bundles, people and model files that several tests and campaigns use."""
