"""The convolutional VQGAN tokenizer, its losses, its own training task, and decoder fine-tuning."""
