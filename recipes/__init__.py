"""Training recipes: how the shipped weights were made, one command per stage."""
