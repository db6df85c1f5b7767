"""Tables of captions: metadata.csv, .tsv, .jsonl, .json and .parquet, as trainers and imagefolder have them."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from muse_studio.errors import UserError
from muse_studio.runtime.files import lines_of
from muse_training.data.captions import SCORE, keys_in

READ = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
"""How the table called `metadata` may end."""
KOHYA = ("meta_cap.json", "meta_clean.json", "meta_lat.json")
"""What the scripts of kohya call theirs."""
FILES = ("file_name", "filename", "file", "image", "image_path", "file_path", "path", "img", "image_file_name")
"""What the picture's file is called in a line, in the order in which they are asked."""
LIKE = '{"file_name": "cat.png", "text": "a cat"}'
DELIMITERS = ",;\t|"


class _Table(dict[str, Any]):
    """A table of JSON, which knows of keys that are there twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


class Entry(NamedTuple):
    """What one line of a table says of one picture: the line's place, the file as written there, caption and score."""

    where: str
    file: str
    said: Any
    score: Any = None


def is_table(file: Path) -> bool:
    """Whether a file is called as a table of captions is."""
    name = file.name.lower()
    return name in KOHYA or name in {f"metadata{ending}" for ending in READ}


def read_table(file: Path, shown: str) -> list[Entry]:
    """Every line of a table that is `shown` as; UserError, naming the line, where one can't be understood."""
    readers = {".jsonl": _json_lines, ".json": _json, ".parquet": _parquet}
    return list(readers.get(file.suffix.lower(), _separated)(file, shown))


def _json_lines(file: Path, shown: str) -> Iterator[Entry]:
    for number, line in enumerate(lines_of(_text(file)), 1):
        if line.strip():
            try:
                entry = json.loads(line, object_pairs_hook=_Table)
            except (ValueError, RecursionError) as error:
                raise _unlike(f"{file}:{number}", error) from error
            yield _entry(entry, f"{shown}:{number}", f"{file}:{number}")


def _json(file: Path, shown: str) -> Iterator[Entry]:
    """A list of what `metadata.jsonl` has in its lines, or the table of kohya: what is said, by the picture's name."""
    try:
        held = json.loads(_text(file), object_pairs_hook=_Table)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is no JSON: {error}; mend it, or take it out of the folder") from error
    if isinstance(held, _Table):
        for name, said in held.pairs:
            yield Entry(f"{shown}: {name}", name, said, said.get(SCORE) if isinstance(said, dict) else None)
        return
    if not isinstance(held, list):
        raise UserError(f'{file} is no list of {LIKE}, and no table {{"cat.png": "a cat"}}; mend it, or take it away')
    for number, entry in enumerate(held, 1):
        yield _entry(entry, f"{shown}: entry {number}", f"{file}, entry {number},")


def _separated(file: Path, shown: str) -> Iterator[Entry]:
    text = _text(file)
    header = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        columns = list(rows.fieldnames or [])
        name, said = _columns(columns, str(file))
        for row in rows:
            where = f"{rows.line_num}"
            if not (row[name] or "").strip():
                raise UserError(f"{file}:{where} names no picture in its column {name}; name one, or delete the line")
            if None in row:
                raise UserError(
                    f"{file}:{where} has more fields than the {len(columns)} of its first line; put a caption with "
                    f'{delimiter!r} into quotes: "…"'
                )
            cells = {key: _cell(key, row[key]) for key in said}
            yield Entry(f"{shown}:{where}", row[name], cells, row.get(SCORE))
    except csv.Error as error:
        raise UserError(f"{file}:{rows.line_num} is no line of such a table: {error}; mend it or delete it") from error


def _cell(column: str, text: str | None) -> str | int | None:
    """A cell's text; in the column of labels a number is a class's."""
    digits = column.strip().lower() == "label" and text is not None and text.strip().isdecimal()
    return int(text) if digits and text is not None else text


def _parquet(file: Path, shown: str) -> Iterator[Entry]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UserError(
            f"{file} needs the library pyarrow: pip install -c constraints.txt -e '.[datasets]'; or give the captions "
            "as metadata.csv"
        ) from error
    try:
        with parquet.ParquetFile(file) as opened:
            name, said = _columns(opened.schema_arrow.names, str(file))
            rows = opened.read([name, *said, *{SCORE}.intersection(opened.schema_arrow.names)]).to_pylist()
    except (ArrowException, OSError) as error:
        raise UserError(f"{file} is no whole parquet file: {error}; give another copy, or take it away") from error
    for number, row in enumerate(rows):
        if not isinstance(row[name], str):
            raise UserError(f"{file}, row {number}: its {name} is {type(row[name]).__name__}, and no file's name")
        yield Entry(f"{shown}: row {number}", row[name], {key: row[key] for key in said}, row.get(SCORE))


def _columns(columns: list[str], file: str) -> tuple[str, list[str]]:
    """The column of file names, and those of captions, the first to be asked first."""
    name, said = _file_key(columns), keys_in(columns)
    for found, what, such in ((name, "file names", FILES[0]), (said, "captions", "caption")):
        if not found:
            held = ", ".join(map(str, columns)) or "nothing"
            raise UserError(f"{file} has no column of {what}, but {held:.200}; call it {such}, or take the table away")
    assert name is not None
    return name, said


def _file_key(keys: Any) -> str | None:
    found = {str(key).strip().lower(): key for key in keys}
    known = next((found[key] for key in FILES if key in found), None)
    return known if known is not None else next((found[key] for key in found if key.endswith("_file_name")), None)


def _entry(entry: Any, where: str, place: str) -> Entry:
    if not isinstance(entry, _Table):
        raise _unlike(place, f"it is {type(entry).__name__}")
    if twice := [key for key, count in Counter(key for key, _ in entry.pairs).items() if count > 1]:
        raise _unlike(place, f"it has {', '.join(twice)} twice")
    name, said = _file_key(entry), keys_in(entry)
    if name is None or not isinstance(entry[name], str):
        raise _unlike(place, f"no file_name, but {', '.join(map(str, entry)) or 'nothing':.200}")
    if not said:
        raise _unlike(place, f"no caption or text, but {', '.join(map(str, entry)):.200}")
    return Entry(where, entry[name], {key: entry[key] for key in said}, entry.get(SCORE))


def _unlike(place: str, why: object) -> UserError:
    return UserError(f"{place} is not a line like {LIKE}: {why}")


def _text(file: Path) -> str:
    """The file's text; bytes that are no UTF-8 stay what they are, so that only lines that hold them are refused."""
    return file.read_bytes().decode("utf-8-sig", "surrogateescape")
