"""Model folders in the official format with random weights: for tests (tiny) and benchmarks (full).

Speed does not depend on the values of the weights, so a full-size folder stands in for a release.
"""
