"""Class-conditional masked transformers, MaskGIT's and later ones, as a plugin."""
