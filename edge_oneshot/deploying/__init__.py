"""From a bundle to a device: one archive that installs without a network, and its way there over ssh."""
