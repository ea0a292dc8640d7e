"""PyTorch backend: for GPUs, for training and as a reference."""
