"""The masked-token training task: loss, data, optimizers."""
