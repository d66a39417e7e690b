"""From an embedding to a decision."""
