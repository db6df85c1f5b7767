"""Three parts that papers swap, for muse_studio."""
