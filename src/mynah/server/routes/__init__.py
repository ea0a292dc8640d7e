"""One module per family of HTTP endpoints; each has a ``router``."""
