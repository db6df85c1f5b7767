"""Halton-MaskGIT: its transformer, its order of sampling, and its published weights."""
