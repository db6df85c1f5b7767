"""Drawing: prompts become pictures, in batches, and files that say where they come from."""
