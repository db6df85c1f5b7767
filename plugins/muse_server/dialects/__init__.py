"""What other programs speak, translated: OpenAI's images API, and a small part of A1111's."""
