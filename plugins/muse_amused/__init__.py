"""aMUSEd, the open reproduction of Muse: its transformer, its sampler, and its published weights."""
