"""What a client sends, as JSON or as a form: named fields, each checked where it is read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from muse_server.refusals import Refusal
from muse_studio.images.naming import is_unicode

MOST_FILES, MOST_FIELDS = 17, 30
"""Of one form: sixteen pictures and a mask, and more fields than OpenAI's API has."""
_NESTED = re.compile(r"([^\[\]]{1,64})((?:\[[^\[\]]{0,64}\]){0,8})")


class Missing(Refusal):
    """A field that can't be done without is not there."""

    code = "missing_required_parameter"


class Invalid(Refusal):
    """A field is of another type, or out of its range."""

    code = "invalid_value"


class Unsupported(Refusal):
    """A body of another type than is taken."""

    code = "unsupported_content_type"


@dataclass(frozen=True)
class Fields:
    """A client's fields by name. A field that is null is as good as none.

    of_form: whether values came as text, of a form, which has no types. files: uploaded files by name, in their order.
    """

    values: dict[str, Any]
    files: dict[str, list[bytes]] = field(default_factory=dict)
    of_form: bool = False

    def text(self, name: str, most: int = 256, default: str = "") -> str:
        """A text of at most so many characters."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            self._refuse(name, "a text")
        if len(value) > most:
            raise Invalid(f"{name} has {len(value):,} characters; give at most {most:,}", name)
        if not is_unicode(value):
            raise Invalid(f"{name} is not valid Unicode", name)
        return value

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """One of several words."""
        value = self.text(name) or default
        if value not in choices:
            raise Invalid(f"{name} is {value!r}; give one of {', '.join(choices)}", name)
        return value

    def whole(self, name: str, least: int, most: int, default: int) -> int:
        """A whole number from least to most."""
        value = self._number(name)
        if value is None:
            return default
        if value != int(value) or not least <= value <= most:
            raise Invalid(f"{name} is {value}; give a whole number from {least} to {most}", name)
        return int(value)

    def number(self, name: str, least: float, most: float) -> float | None:
        """A number from least to most, None where there is none."""
        value = self._number(name)
        if value is not None and not least <= value <= most:
            raise Invalid(f"{name} is {value}; give a number from {least:g} to {most:g}", name)
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self.values.get(name)
        if self.of_form and isinstance(value, str):
            value = {"true": True, "1": True, "false": False, "0": False, "": None}.get(value.lower(), value)
        if value is None:
            return default
        if not isinstance(value, bool):
            self._refuse(name, "true or false")
        return value

    def table(self, name: str) -> dict[str, Any] | None:
        """A table, None where there is none or it is empty; of a form also one in JSON, or spelled name[key]."""
        value = self.values.get(name)
        if self.of_form and isinstance(value, str):
            value = parsed(value, name) if value.strip() else None
        if value is None:
            return None
        if not isinstance(value, dict):
            self._refuse(name, "a table")
        return value or None

    def _number(self, name: str) -> int | float | None:
        value = self.values.get(name)
        if self.of_form and isinstance(value, str):
            value = _scalar(value) if value.strip() else None
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse(name, "a number")
        return value

    def _refuse(self, name: str, wanted: str) -> NoReturn:
        got = {dict: "a table", list: "a list", str: "a text", bool: "true or false"}
        raise Invalid(f"{name}: expected {wanted}, got {got.get(type(self.values[name]), 'a number')}", name)


async def read_json(request: Request) -> Fields:
    """The fields of a body in JSON; Refusal where it is none."""
    _expect(request, "application/json")
    try:
        values = parsed(await request.body())
    except ClientDisconnect as error:
        raise _left() from error
    if not isinstance(values, dict):
        raise Invalid("the body is no JSON object; send {...}")
    return Fields(values)


async def read_form(request: Request) -> Fields:
    """The fields and files of a multipart form; Refusal where it is none."""
    _expect(request, "multipart/form-data")
    try:
        form = await request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS)
    except ClientDisconnect as error:
        raise _left() from error
    except (ValueError, LookupError) as error:  # of a charset that is named and can't be used
        raise Invalid("the form can't be read") from error
    values: dict[str, Any] = {}
    files: dict[str, list[bytes]] = {}
    try:
        for name, value in form.multi_items():
            if isinstance(value, str):
                _put(values, name, value)
            else:
                files.setdefault(name.partition("[")[0], []).append(await value.read())
    finally:
        await form.close()
    return Fields(values, files, of_form=True)


def parsed(content: str | bytes, param: str | None = None) -> Any:
    """What a text in JSON says; Refusal where it is none, is nested too deep, or has numbers without end."""
    try:
        return json.loads(content, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{param or 'the body'} is no JSON that can be read", param) from error


def _left() -> HTTPException:
    """What ends a request whose client has gone amid its body: an answer that nobody hears."""
    return HTTPException(400, "the client has closed its connection")


def _expect(request: Request, wanted: str) -> None:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != wanted:
        raise Unsupported(f"unsupported content type {given[:80]!r}; this takes {wanted} alone")


def _put(values: dict[str, Any], name: str, value: str) -> None:
    """A form's field in its place: `a`, `a[b][c]` in tables, `a[]` in a list."""
    match = _NESTED.fullmatch(name)
    if match is None:
        raise Invalid(f"{name[:64]!r} is no name of a field")
    first, keys = match[1], re.findall(r"\[([^\]]*)\]", match[2])
    if not keys:
        values[first] = value
        return
    table, key = values, first
    for index, deeper in enumerate(keys):
        below = table.setdefault(key, [] if deeper == "" else {})
        if isinstance(below, list) and deeper == "" and index == len(keys) - 1:
            below.append(_scalar(value))
            return
        if not isinstance(below, dict) or deeper == "":
            raise Invalid(f"{first} is given in two ways, or as a list of tables", first)
        table, key = below, deeper
    table[key] = _scalar(value)


def _scalar(text: str) -> Any:
    """What JSON has for a number, true, false or null; all else is a text, as it came."""
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, str | list | dict) else value


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(text)
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)
