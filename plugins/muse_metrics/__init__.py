"""What drawn pictures are measured by: distances of features, classes, captions, and pixel by pixel."""
