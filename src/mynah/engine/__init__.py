"""Sessions run in threads of their own, and what their callers hold."""
