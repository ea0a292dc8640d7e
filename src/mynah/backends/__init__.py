"""Backends: a handful of network calls behind protocols, and nothing else."""
