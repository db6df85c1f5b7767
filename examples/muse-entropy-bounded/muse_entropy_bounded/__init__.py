"""The sampler entropy-bounded for muse_studio."""
