"""Open-MAGVIT2's tokenizer, as a plugin."""
