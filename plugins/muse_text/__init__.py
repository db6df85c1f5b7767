"""Frozen, pretrained text encoders: prompts to the vectors that a masked transformer attends to."""
