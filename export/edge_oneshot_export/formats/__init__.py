"""Keras to .tflite and .onnx, and what such files say of themselves."""
