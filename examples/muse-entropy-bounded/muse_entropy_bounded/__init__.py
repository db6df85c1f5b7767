"""The sampler eb-sampler for muse_studio."""
