"""From an embedding to a decision: scores, thresholds, and the search for the best two persons."""
