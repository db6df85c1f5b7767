"""MaskGIT: its class-conditional transformer, its classes, and its published weights."""
