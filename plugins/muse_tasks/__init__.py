"""The default tasks: drawing, editing, measuring, and sweeps over settings."""
