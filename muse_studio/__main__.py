"""Lets `python -m muse_studio` be the muse command."""

import sys

from muse_studio.cli import main

if __name__ == "__main__":
    sys.exit(main())
