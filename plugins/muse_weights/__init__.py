"""The world's published weights, made ours: one table a dialect, and the task that applies it."""
