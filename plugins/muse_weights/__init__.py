"""The world's published weights, made ours and back by their dialects: the tasks that do it."""
