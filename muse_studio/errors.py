"""The errors that a user can mend. The command line prints their message alone and exits with 2."""

from __future__ import annotations


class UserError(Exception):
    """Something the user gave does not work; the message names the place and the cure."""


class Refused(UserError):
    """A filter refuses a prompt or a picture; the message names the filter and its reason."""


class Followed(UserError):
    """Another process of the same run failed, and tells why; this one ends in silence."""


class Terminated(KeyboardInterrupt):
    """The run was asked to stop by SIGTERM, and did so in good order."""
