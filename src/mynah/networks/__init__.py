"""Torch modules, one forward each; used by the torch backend, by training and by export.

State that lives between calls is a ``dict[str, Tensor]`` handed in and out. Keys that start with
``past_`` grow along axis 0 (time) and a forward returns only their new rows; every other key is
replaced by what the forward returns. Nothing mutable is kept on a module.
"""
