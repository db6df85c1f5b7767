"""Pixel art for muse_studio: a tokenizer, a transformer with a matching head, and a data set."""
