"""What a training step hides, asks and pays."""
