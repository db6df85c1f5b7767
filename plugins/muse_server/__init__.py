"""A page to draw on, and a server that other programs can ask: the task `studio`."""
