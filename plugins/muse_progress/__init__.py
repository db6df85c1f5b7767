"""Progress bars on a terminal, and a training's lines elsewhere."""
