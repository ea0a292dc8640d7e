"""ONNX Runtime backend: the default, runs on any CPU without torch."""
