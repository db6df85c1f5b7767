"""Editing: a picture changes where it is told to."""
