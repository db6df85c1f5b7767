"""From a sentence to tokens to pixels, for a whole picture or for a part of one."""
