"""Observers that a recipe names under `observers`: previews, logs, a filter of prompts; and each training's curves."""
