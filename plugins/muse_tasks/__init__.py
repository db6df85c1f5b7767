"""The default tasks: pictures from prompts, and the measure of a model."""
