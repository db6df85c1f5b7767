"""Observers that a recipe names under `observers`: previews, logs, and a filter of prompts."""
