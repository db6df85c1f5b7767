"""What a server refuses: mistakes of a client, each with the status that HTTP has for it."""

from __future__ import annotations

from muse_studio.errors import UserError


class Refusal(UserError):
    """A client's mistake. status: HTTP's. param: the field of its body that is wrong. code: a word for programs."""

    status = 400
    code: str | None = None

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class NotFound(Refusal):
    """There is no such thing, or there is none any more."""

    status = 404
    code = "not_found"


class Busy(Refusal):
    """It can't be done while something else goes on."""

    status = 409
    code = "busy"


class Full(Refusal):
    """Too many ask at once; `retry_after`: whole seconds after which it may be asked again."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after
