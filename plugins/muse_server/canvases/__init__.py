"""Canvases that somebody draws on from afar: what is done to them, what is told of them, and where they are kept."""
