"""From an image file to the input of a model in its runtime: decoding, preprocessing, quantization, runtimes."""
