"""MaskGIT's masked transformer and those of later models, most of them class-conditional, as a plugin."""
