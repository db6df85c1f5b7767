"""What the thread that owns the model works on, and how that is told."""
