"""The embedded model and the emoji art that it is trained on."""
