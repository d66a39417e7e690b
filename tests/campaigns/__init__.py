"""Long campaigns against what the product promises. The tests run a share of each; `make soak` runs them whole."""
