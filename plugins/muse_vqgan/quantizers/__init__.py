"""Latents to codes: learned codebooks (`vector`, `index`), signs (`lookup_free`), rounded numbers (`finite`)."""
