"""Sweeps: a recipe run with every combination of some settings."""
