"""MaskGIT's class-conditional transformer, as a plugin."""
