"""The base and the super-resolution transformer."""
