"""Convert Keras models to .tflite and .onnx, and read and adapt such files."""
