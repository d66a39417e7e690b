"""From an image file to its embedding."""
