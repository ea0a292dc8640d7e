"""A model's sessions scheduled on a few workers, and what their callers hold."""
