"""Measuring: how good a model is at drawing, and at editing."""
