"""Tokens that change and pixels that stay: regions, larger pictures, edits, and a canvas to draw on."""
