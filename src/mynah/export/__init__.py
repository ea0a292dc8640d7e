"""Export of torch networks to what the ONNX backend loads."""
