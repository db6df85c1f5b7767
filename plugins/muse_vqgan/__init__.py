"""The convolutional VQGAN tokenizer, its losses and its own training task."""
