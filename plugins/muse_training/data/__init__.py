"""What is trained on: pictures from anywhere, and the tokens and text states made of them once."""
