"""The errors that a user can mend. The command line prints their message alone and exits with 2."""

from __future__ import annotations


class UserError(Exception):
    """Something the user gave does not work; the message names the place and the cure."""
