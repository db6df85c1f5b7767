"""Open-MAGVIT2: its tokenizer and its published weights."""
