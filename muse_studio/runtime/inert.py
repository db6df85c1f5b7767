"""Follows a pickle's instructions without running them: what they would import, call or fill is stood in for.

`pickletools` takes the instructions apart and carries none out. Nothing here looks a name up.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import torch

MOST = 5_000_000
"""Instructions that are followed; a checkpoint of a thousand tensors and their optimizer has some hundred thousand."""
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LONGEST, MOST_AXES = 4096, 64
"""Letters of a key or a name, and axes of a tensor: what is looked at again and again may not be long."""
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
BESIDE = {"PROTO", "FRAME", "READONLY_BUFFER"}
"""Instructions that change nothing here."""
EXTENSIONS = {"EXT1", "EXT2", "EXT4"}
"""Instructions that name a class by a number, which a process may have registered."""
SAID = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
"""Instructions that say a number or a text."""
PUT = {"PUT", "BINPUT", "LONG_BINPUT"}
GET = {"GET", "BINGET", "LONG_BINGET"}


@dataclass(eq=False)
class StandIn:
    """In place of a class, of a function, and of all that one would have made; it swallows its state.

    name: of the class or function, such as "argparse.Namespace". items: by key, where it is filled as a dict is.
    """

    name: str
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Storage:
    """Where numbers lie: a key of the file, how many of which type, and how many of them stand before these."""

    key: str
    dtype: torch.dtype
    count: int
    begin: int = 0


@dataclass(frozen=True)
class Stored:
    """A tensor that is not read yet: from which of a storage's numbers on, and how they are laid out."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def span(self) -> tuple[int, int]:
        """Its first byte in the storage, and the byte behind its last one."""
        begin = self.storage.begin * self.storage.dtype.itemsize + self.offset * self.dtype.itemsize
        if not all(self.shape):
            return begin, begin
        last = sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        return begin, begin + (last + 1) * self.dtype.itemsize


STORAGES = {
    **{"DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16"},
    **{"LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8"},
    **{"ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8"},
    **{"ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128"},
}
"""The types of numbers by the last word of torch's classes, such as torch.cuda.FloatStorage."""


def storage(said: Any) -> Storage | StandIn:
    """What a persistent id of torch's names: ("storage", class, key, device, count), in old files with a view."""
    match said:
        case ("storage", StandIn(name=name), str(key), _, int(count), *rest) if count >= 0:
            kind = STORAGES.get(name.rpartition(".")[2])
            match rest:
                case [(_, int(begin), int(count))] if begin >= 0 and count >= 0:
                    pass  # of a larger storage, which has the key
                case _:
                    begin = 0
            if kind is not None:
                return Storage(key, getattr(torch, kind), count, begin)
    return StandIn("a persistent id")


def followed(file: BinaryIO, storages: dict[str, Storage] | None = None) -> Any:
    """What the next pickle of a file describes, of plain values, `Stored` and `StandIn`.

    storages: is given those that it names, by their keys. The file must give no more than it has, whatever is asked
    for. ValueError, LookupError or TypeError where it is no pickle, or is damaged; the file then stands anywhere.
    """
    return _Follower({} if storages is None else storages).follow(file)


class _Follower:
    """One pickle's stack and memory."""

    def __init__(self, storages: dict[str, Storage]) -> None:
        self.storages = storages
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memory: dict[int, Any] = {}

    def follow(self, file: BinaryIO) -> Any:
        for number, (opcode, said, _) in enumerate(pickletools.genops(file)):
            if number > MOST:
                raise ValueError(f"it has more than {MOST:,} instructions")
            if opcode.name != "STOP":
                self._step(opcode.name, said)
        return self.stack.pop()

    def _step(self, name: str, said: Any) -> None:
        if name in SAID:
            self.push(said)
        elif name in PUT:
            self.memory[said] = self.stack[-1]
        elif name in GET:
            self.push(self.memory[said])
        elif name == "MEMOIZE":
            self.memory[len(self.memory)] = self.stack[-1]
        elif name in CONSTANTS:
            self.push(CONSTANTS[name])
        elif name in EMPTY:
            self.push(EMPTY[name]())
        elif name == "GLOBAL":
            self.push(StandIn(said.replace(" ", ".")))
        elif name == "INST":
            self.push(made(StandIn(said.replace(" ", ".")), self.marked()))
        elif name in EXTENSIONS:
            self.push(StandIn(f"extension {said}"))
        elif name == "PERSID":
            self.push(storage(said))
        elif name not in BESIDE:
            STEPS[name](self)

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        """What stands above the last mark, which is taken off with it."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def pop(self) -> Any:
        return self.stack.pop()

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def fill(self, pairs: list[Any]) -> None:
        """Put keys and values, in turn, into the dict on top, or into a stand-in for one."""
        top = self.stack[-1]
        items = top.items if isinstance(top, StandIn) else top
        if not isinstance(items, dict) or len(pairs) % 2:
            raise TypeError("something other than a dict is filled as one")
        items.update((hashable(key), value) for key, value in zip(pairs[::2], pairs[1::2], strict=True))

    def extend(self, values: list[Any]) -> None:
        """Put values behind those of the list on top, or into a stand-in, which swallows them."""
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)
        elif not isinstance(self.stack[-1], StandIn):
            raise TypeError("something other than a list is filled as one")

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise LookupError("a tuple of more than there is")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def call(self, given: Any) -> None:
        self.push(made(self.pop(), given))


def _keyed(follower: _Follower) -> None:
    value = follower.pop()
    follower.fill([follower.pop(), value])


def _dict(follower: _Follower) -> None:
    pairs = follower.marked()
    follower.push({})
    follower.fill(pairs)


def _global(follower: _Follower) -> None:
    name, module = follower.pop(), follower.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise TypeError("a class's name is no text")
    if len(name) + len(module) > LONGEST:
        raise ValueError("a class has a very long name")
    follower.push(StandIn(f"{module}.{name}"))


def _storage(follower: _Follower) -> None:
    found = storage(follower.pop())
    if isinstance(found, Storage):
        follower.storages[found.key] = found
    follower.push(found)


def _object(follower: _Follower) -> None:
    kind, *given = follower.marked()
    follower.push(made(kind, given))


def _object_by_names(follower: _Follower) -> None:
    follower.pop()
    follower.call(follower.pop())


def _one(follower: _Follower) -> None:
    value = follower.pop()
    follower.extend([value])


def _set_filled(follower: _Follower) -> None:
    follower.marked()


def _frozen_set(follower: _Follower) -> None:
    follower.marked()
    follower.push(StandIn("builtins.frozenset"))


STEPS: dict[str, Callable[[_Follower], Any]] = {
    "MARK": _Follower.mark,
    "POP": lambda follower: follower.pop() if follower.stack else follower.marked(),
    "POP_MARK": _Follower.marked,
    "DUP": lambda follower: follower.push(follower.stack[-1]),
    "LIST": lambda follower: follower.push(follower.marked()),
    "TUPLE": lambda follower: follower.push(tuple(follower.marked())),
    "TUPLE1": lambda follower: follower.tuple_of(1),
    "TUPLE2": lambda follower: follower.tuple_of(2),
    "TUPLE3": lambda follower: follower.tuple_of(3),
    "DICT": _dict,
    "APPEND": _one,
    "APPENDS": lambda follower: follower.extend(follower.marked()),
    "SETITEM": _keyed,
    "SETITEMS": lambda follower: follower.fill(follower.marked()),
    "EMPTY_SET": lambda follower: follower.push(StandIn("builtins.set")),
    "ADDITEMS": _set_filled,
    "FROZENSET": _frozen_set,
    "BUILD": _Follower.pop,
    "REDUCE": lambda follower: follower.call(follower.pop()),
    "NEWOBJ": lambda follower: follower.call(follower.pop()),
    "NEWOBJ_EX": _object_by_names,
    "OBJ": _object,
    "STACK_GLOBAL": _global,
    "BINPERSID": _storage,
    "NEXT_BUFFER": lambda follower: follower.push(StandIn("a buffer beside the file")),
}
"""What an instruction does to the stack. BUILD drops the state that it would fill an object with."""


def made(kind: Any, given: Any) -> Any:
    """What calling a stand-in gives: of what is known here by its name, a tensor or a dict; else a stand-in again."""
    if not isinstance(kind, StandIn):
        raise TypeError(f"a {type(kind).__name__} is called")
    maker = MAKERS.get(kind.name)
    if maker is None:
        return StandIn(kind.name)
    return maker(*given)


def hashable(key: Any) -> Any:
    """A key itself where it is plain; else a stand-in: to hash what is nested deeply can end the process."""
    if isinstance(key, str | bytes):
        return key if len(key) <= LONGEST else StandIn("a key")
    if isinstance(key, int):
        return key if key.bit_length() < 64 else StandIn("a key")
    return key if key is None or isinstance(key, float | StandIn) else StandIn("a key")


def _tensor(where: Any, offset: Any, shape: Any, stride: Any, dtype: torch.dtype | None = None) -> Stored | StandIn:
    if not isinstance(where, Storage):
        return StandIn("torch.Tensor")
    if len(shape) != len(stride) or len(shape) > MOST_AXES:
        raise ValueError("a tensor has no shape")
    numbers = (offset, *shape, *stride)
    if any(type(each) is not int or not 0 <= each < 2**62 for each in numbers):
        raise ValueError("a tensor has no shape")
    found = Stored(where, dtype or where.dtype, offset, tuple(shape), tuple(stride))
    if found.span[1] > (where.begin + where.count) * where.dtype.itemsize:
        raise ValueError("a tensor reaches behind its numbers")
    return found


def _typed(where: Any, offset: Any, shape: Any, stride: Any, grad: Any, hooks: Any, kind: Any, *rest: Any) -> Any:
    """A tensor of a type that has no storage of its own, by the type's name, torch.float8_e4m3fn."""
    dtype = getattr(torch, kind.name.removeprefix("torch."), None) if isinstance(kind, StandIn) else None
    return _tensor(where, offset, shape, stride, dtype) if isinstance(dtype, torch.dtype) else StandIn("torch.Tensor")


def _table(pairs: Any = ()) -> dict[Any, Any]:
    """The pairs themselves where they are a dict, not copied: a file can name the same ones a million times."""
    if isinstance(pairs, dict):
        return pairs
    if len(pairs) > LONGEST:
        raise ValueError("a dict is made of a very long list")
    return {hashable(key): value for key, value in pairs}


MAKERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _table,
    "collections.defaultdict": lambda factory=None, pairs=(): _table(pairs),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": lambda where, offset, shape, stride, *rest: _tensor(
        where, offset, shape, stride
    ),
    "torch._utils._rebuild_tensor_v3": _typed,
    "torch._utils._rebuild_parameter": lambda data, *rest: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *rest: data,
    "torch.nn.parameter.Parameter": lambda data=None, *rest: data,
    "torch._tensor._rebuild_from_type_v2": lambda function, kind, given, state: made(function, given),
}
"""The functions that make tensors and dicts, by the names in files: written anew here, and the only ones there are."""
