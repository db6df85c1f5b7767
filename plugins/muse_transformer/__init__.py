"""The base masked transformer."""
