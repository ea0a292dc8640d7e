"""Protocols over WebSockets."""
