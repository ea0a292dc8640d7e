"""Waveforms: reading, writing, resampling, features. NumPy only, no networks, no text."""
