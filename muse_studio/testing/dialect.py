"""What dialects promise: their tables can be read, and a source that is made up becomes the part, tensor by tensor."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from torch import Tensor

from muse_studio.contracts import Dialect
from muse_studio.recipe.running import parts
from muse_studio.recipe.tree import to_yaml
from muse_studio.runtime.dialects import Found, Imported, Piece
from muse_studio.runtime.matching import CHANGES, Match, Tensors, differences, made, match, wanted
from muse_studio.runtime.wrappers import as_the_table_has_them
from muse_studio.testing.contract import Contract
from muse_studio.testing.promise import REFUSED, promise

STRANGER = "a.name.that.no.table.knows"
Source: TypeAlias = Mapping[str, Mapping[str, Tensor]]


class DialectContract(Contract):
    """Promises of a `contracts.Dialect`, held against a small source that a test makes up."""

    def make(self) -> Dialect:
        """The dialect, as what the hook names gives it."""
        return self.target()()

    def target(self) -> Callable[..., Any]:
        """The function that gives the dialect."""
        raise NotImplementedError(
            f"{type(self).__name__} must define target(self): the function that gives the dialect"
        )

    def source(self) -> Source:
        """A small source: each piece's tensors as its file holds them, unwrapped, by their published names."""
        raise NotImplementedError(f"{type(self).__name__} must define source(self): small tensors by piece and name")

    def configs(self) -> dict[str, dict[str, Any]]:
        """The JSON files that belong to it, by their names in the source; none by default."""
        return {}

    def part(self, piece: Piece) -> Any:
        """The part that a piece becomes; by default the one that goes by the piece's kind and name."""
        return parts(piece.kind, piece.part)[0].load()

    @promise("its names are its own")
    def test_names_are_its_own(self) -> None:
        dialect = self.make()
        assert dialect.name.strip(), "name is empty; give what a recipe writes"
        assert dialect.pieces or dialect.former, "there are no pieces; a dialect reads one file at least"
        for what in ("name", "written"):
            names = [getattr(piece, what) for piece in dialect.pieces]
            twice = {name for name in names if names.count(name) > 1}
            assert not twice, f"several pieces have the {what} {', '.join(sorted(twice))}"
        for name in dialect.further:
            assert name in {piece.name for piece in dialect.pieces}, f"further has {name!r}, which is no piece"

    @promise("every line of its tables can be read")
    def test_every_rule_can_be_read(self) -> None:
        for piece in self.make().pieces:
            for rule in piece.rules:
                pattern = _compiled(rule.pattern, piece)
                asked = [int(number) for number in re.findall(r"\\(\d)", rule.name)]
                assert max(asked, default=0) <= pattern.groups, (
                    f"{piece.name}: {rule.name!r} asks for group {max(asked)} of {rule.pattern!r}, which has "
                    f"{pattern.groups}"
                )
                assert rule.change in CHANGES, f"{piece.name}: {rule.change!r} is no change; give {', '.join(CHANGES)}"
            for pattern in piece.drop:
                _compiled(pattern, piece)

    @promise("no name of today is taken for a former one")
    def test_names_of_today_stay(self) -> None:
        former = self.make().former
        for pattern, beginning in () if former is None else former.rules:
            name = re.sub(r"\\\d", "0", beginning) + "weight"
            assert former.current(name) == name, f"{pattern!r} becomes {name}, which a rule renames again"

    @promise("every tensor of the part is filled, once, and no published one is left over")
    def test_a_source_fills_the_part(self) -> None:
        for piece, tensors, settings, found in self._matched():
            config = self._config(piece)
            shapes = wanted(piece, self.part(piece), settings, config)
            wrong = {what: names for what, names in differences(found, tensors.shapes, shapes).items() if names}
            assert not wrong, f"{piece.name}: " + "; ".join(f"{what}: {names[0]}" for what, names in wrong.items())
            for name, origins in found.origins.items():
                shape = list(made(origins, tensors.read).shape)
                assert shape == shapes[name], f"{piece.name}: {name} is made {shape}, and is {shapes[name]}"

    @promise("every tensor that no file has is made or begins somewhere")
    def test_the_rest_of_the_part_is_known(self) -> None:
        dialect = self.make()
        for piece in dialect.pieces:
            assert not piece.made or piece.name in dialect.further, (
                f"{piece.name}: {piece.made[0]} is to be made, but further has nothing that makes it"
            )

    @promise("a name that no line knows is not let pass")
    def test_a_stranger_is_found(self) -> None:
        for piece, tensors, settings, _ in self._matched():
            found = match([*tensors.shapes, STRANGER], piece, settings)
            assert STRANGER in found.unknown, f"{piece.name}: {STRANGER!r} passes unseen; make rules and drop narrower"

    @promise(REFUSED)
    def test_another_model_s_file_is_refused(self) -> None:
        for piece in self.make().pieces:
            try:
                given = piece.settings(Found({}, {}, {}))
            except (LookupError, TypeError, ValueError):
                continue
            raise AssertionError(f"{piece.name}: a file that holds nothing gives {given}; look up what it must hold")

    @promise("its recipes are data, and take every file that was written")
    def test_its_recipes_name_what_was_written(self) -> None:
        dialect = self.make()
        settings = {piece.name: set_by for piece, _, set_by, _ in self._matched()}
        written = dialect.recipes(Imported(Path("folder"), {**settings, **dialect.given}))
        assert written or dialect.former, "there are no recipes; give the model at least"
        try:
            text = "".join(to_yaml(table) for table in written.values())
        except yaml.YAMLError as error:
            raise AssertionError(f"a recipe holds what YAML can't write: {error}") from error
        for piece in dialect.pieces:
            path = Path("folder", piece.written)
            taken = str(path if path.parent == Path("folder") else path.parent)  # a part may take a whole folder
            assert taken in text, f"no recipe takes {piece.written}, which was written"

    def _config(self, piece: Piece) -> dict[str, Any]:
        name = f"{piece.folder}/config.json" if piece.folder else "config.json"
        return {**piece.defaults, **self.configs().get(name, {})}

    def _matched(self) -> Iterator[tuple[Piece, Tensors, dict[str, Any], Match]]:
        """Each piece with its tensors, our part's settings, and how the names fit."""
        source, configs = self.source(), self.configs()
        for piece in self.make().pieces:
            assert piece.name in source, f"source() has no {piece.name!r}; give its tensors by their published names"
            held = source[piece.name]
            shapes = {name: list(tensor.shape) for name, tensor in held.items()}
            tensors = as_the_table_has_them(Tensors(shapes, held.__getitem__), piece)
            config = self._config(piece)
            settings = piece.settings(Found(config, tensors.shapes, configs))
            yield piece, tensors, settings, match(tensors.shapes, piece, settings)


def _compiled(pattern: str, piece: Piece) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise AssertionError(f"{piece.name}: {pattern!r} is no regular expression: {error}") from error
