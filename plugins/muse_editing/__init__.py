"""Editors: how a region of a finished grid of tokens changes."""
