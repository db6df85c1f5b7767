"""Observers that a recipe names under `observers`: previews, Weights & Biases, and a filter of prompts."""
