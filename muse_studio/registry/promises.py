"""What each method of a part promises, held against what it gives: types, shapes and dtypes, and few values.

One function a promise: it calls the part's method and raises by `door.broken` where the answer is not as promised.
Values are looked at where that waits for no device: on a CPU, and once at the end of sampling or decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from muse_studio.contracts import MASK, MICRO, Lots, TextEmbedding
from muse_studio.registry.conforming import definition
from muse_studio.registry.faults import Door, Overheard
from muse_studio.registry.guards import short

Promise = Callable[..., Any]
"""(door, the part's method, its arguments) to its answer."""


def plain(door: Door, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """A promise that only the caller could examine."""
    return call(*given, **named)


def grid_shape(door: Door, call: Callable[..., Any], height: int, width: int) -> Any:
    """Two numbers of tokens."""
    sides = call(height, width)
    fits = isinstance(sides, list | tuple) and len(sides) == 2 and all(isinstance(each, int) for each in sides)
    return _kept(door, call, sides, None if fits and min(sides) > 0 else f"it gives {sides!r}; give (h, w)")


def encode(door: Door, call: Callable[..., Any], images: Any) -> Any:
    """int64[B, h, w], on a CPU each of them a code."""
    tokens = call(images)
    grid = _grid_of(door, images) or (None, None)
    wrong = _wrong(tokens, "torch.int64", (len(images), *grid))
    if wrong is None and _is_near(tokens):
        wrong = _wrong_codes(tokens, door.made.codebook_size)
    return _kept(door, call, tokens, wrong)


def decode(door: Door, call: Callable[..., Any], tokens: Any) -> Any:
    """float[B, 3, H, W] of as many tokens, finite and about 0..1."""
    images = call(tokens)
    wrong = _wrong(images, "float", (len(tokens), 3, None, None))
    if wrong is None:
        grid = _grid_of(door, images)
        if grid is not None and grid != tuple(tokens.shape[1:]):
            wrong = f"it gives {short(images)} of {short(tokens)}, and its own grid_shape makes {list(grid)} of that"
        elif not bool(images.isfinite().all()):
            wrong = f"it gives {short(images)} with NaN or infinity"
        elif float(images.amin()) < -1 or float(images.amax()) > 2:  # what oversteps by less is cut off
            wrong = f"it gives {short(images)} from {float(images.amin()):.3g} to {float(images.amax()):.3g}; give 0..1"
    return _kept(door, call, images, wrong)


def _grid_of(door: Door, images: Any) -> tuple[int, ...] | None:
    """The tokenizer's own grid of pictures, None where it has none of that size."""
    try:
        return tuple(door.made.grid_shape(*images.shape[2:]))
    except ValueError:
        return None


def text(door: Door, call: Callable[..., Any], prompts: list[str]) -> Any:
    """A TextEmbedding of as many rows as prompts, and of the encoder's width."""
    answer = call(prompts)
    if not isinstance(answer, TextEmbedding):
        return _kept(door, call, answer, f"it gives {short(answer)}; give a TextEmbedding")
    rows = len(prompts)
    wrong = _wrong(answer.states, "float", (rows, None, door.made.width))
    if wrong is None:
        wrong = _wrong(answer.mask, "torch.bool", tuple(answer.states.shape[:2]))
    if wrong is None and answer.pooled is not None:
        wrong = _wrong(answer.pooled, "float", (rows, None))
    if wrong is None and answer.micro is not None:
        wrong = _wrong(answer.micro, "torch.float32", (rows, len(MICRO)))
    return _kept(door, call, answer, wrong)


def condition(door: Door, call: Callable[..., Any], text: Any, low: Any = None) -> Any:
    """A tuple of tensors, each of as many rows as the text."""
    answer = call(text, low)
    wrong = None if isinstance(answer, tuple) else f"it gives {short(answer)}; give a tuple of tensors"
    for each in answer if wrong is None else ():
        if not _is_tensor(each) or len(each.shape) == 0 or len(each) != len(text.mask):
            wrong = f"one of the tuple is {short(each)}, of a text of {len(text.mask)} rows"
    return _kept(door, call, answer, wrong)


def predict(door: Door, call: Callable[..., Any], tokens: Any, conditioning: Any, *places: Any) -> Any:
    """float[B, h, w, K], or float[B, n, K] of `places` alone; on a CPU none of them NaN."""
    logits = call(tokens, conditioning, *places)
    codes = getattr(door.made, "outputs", None) or door.made.codebook_size
    wrong = _wrong(logits, "float", (*(places[0] if places else tokens).shape, codes))
    return _kept(door, call, logits, wrong or _wrong_logits(logits))


def schedule(door: Door, call: Callable[..., Any], progress: Any) -> Any:
    """float[...] in 0..1, of the same shape."""
    share = call(progress)
    wrong = _wrong(share, "float", tuple(progress.shape))
    if wrong is None and _is_near(share) and share.numel():
        low, high = (float(each) for each in share.aminmax())
        if not (low >= -1e-4 and high <= 1 + 1e-4):
            wrong = f"it gives shares from {low:.3g} to {high:.3g}"
        elif not door.examined:
            door.examined, wrong = True, _wrong_course(call, progress)
    return _kept(door, call, share, wrong)


def _wrong_course(call: Callable[..., Any], progress: Any) -> str | None:
    """What is wrong with how a schedule falls, over a whole run."""
    whole = progress.new_ones(17).cumsum(0).sub(1) / 16
    shares = [float(each) for each in call(whole)]
    if abs(shares[0] - 1) > 1e-2 or abs(shares[-1]) > 1e-2:
        return f"it goes from {shares[0]:.3g} at 0 to {shares[-1]:.3g} at 1; it must go from 1 to 0"
    if any(after > before + 1e-4 for before, after in pairwise(shares)):
        return "it rises on the way"
    return None


def guidance(door: Door, call: Callable[..., Any], ask: Any, text: Any, negative: Any, progress: float) -> Any:
    """Logits of the shape that was asked for; on a CPU none of them NaN."""
    shapes: list[tuple[int, ...]] = []

    def noted(*texts: Any) -> Any:
        answers = ask(*texts)
        shapes.extend(tuple(each.shape) for each in answers)
        return answers

    logits = call(noted, text, negative, progress)
    wanted = shapes[0] if shapes else (len(text.mask), None, None, None)
    return _kept(door, call, logits, _wrong(logits, "float", wanted) or _wrong_logits(logits))


def sampler(door: Door, call: Callable[..., Any], predict: Any, tokens: Any, schedule: Any, generator: Any) -> Any:
    """Grids like the given one; the last has no MASK, and in it is unchanged what was known."""
    answer = call(predict, tokens, schedule, generator)
    return _grids(door, call, answer, tokens, tokens != MASK, getattr(predict, "codes", None))


def editor(door: Door, call: Callable[..., Any], tokens: Any, region: Any, resample: Any, generator: Any) -> Any:
    """Grids like the given one; the last has no MASK, and is unchanged out of the region."""
    answer = call(tokens, region, resample, generator)
    return _grids(door, call, answer, tokens, ~region, None)


def _grids(
    door: Door, call: Callable[..., Any], answer: Any, tokens: Any, known: Any, codes: int | None
) -> Iterator[Any]:
    if _is_tensor(answer) or not isinstance(answer, Iterable):
        raise door.broken(f"it returns {short(answer)}; yield a grid each step", definition(call))
    return _each(door, call, answer, tokens, known, codes)


def _each(
    door: Door, call: Callable[..., Any], answer: Iterable[Any], tokens: Any, known: Any, codes: int | None
) -> Iterator[Any]:
    grid, step = None, 0
    for step, grid in enumerate(answer, 1):
        wrong = _wrong(grid, str(tokens.dtype), tuple(tokens.shape))
        if wrong is None and grid.device != tokens.device:
            wrong = f"it gives a grid on {grid.device}, of one on {tokens.device}"
        if wrong is not None:
            frame = getattr(answer, "gi_frame", None)  # of a generator, which waits at its yield
            place = definition(call) if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
            raise door.broken(f"step {step}: {wrong}", place)
        yield grid
    if grid is None:
        raise door.broken("it yields nothing", definition(call))
    wrong = _wrong_codes(grid, codes)
    if wrong is None and bool(((grid != tokens) & known).any()):
        wrong = f"{int(((grid != tokens) & known).sum())} tokens that were known are changed"
    if wrong is not None:
        raise door.broken(f"the last grid, of step {step}: {wrong}", definition(call))


def record(door: Door, call: Callable[..., Any], index: int) -> Any:
    """A picture and its caption, or tensors in their place."""
    answer = call(index)
    return _kept(door, call, answer, _wrong_record(answer, index))


def _wrong_record(answer: Any, index: int) -> str | None:
    if not isinstance(answer, dict):
        return f"record {index} is {short(answer)}; give a dict"
    if any(str(key).startswith("tokens.") for key in answer):
        strange = next((key for key, each in answer.items() if not _is_tensor(each)), None)
        return None if strange is None else f"record {index}: {strange!r} is {short(answer[strange])}; give a tensor"
    if missing := [repr(key) for key in ("image", "caption") if key not in answer]:
        return f"record {index} has no {' and no '.join(missing)}, but {short(answer)}"
    if not isinstance(answer["caption"], str):
        return f"record {index}: the caption is {short(answer['caption'])}; give a str"
    due = {"image": ("torch.uint8", (3, None, None)), "micro": ("torch.float32", (len(MICRO),))}
    wrong = {key: _wrong(answer[key], *of) for key, of in due.items() if key in answer}
    return next((f"record {index}, {key}: {each}" for key, each in wrong.items() if each), None)


def length(door: Door, call: Callable[..., Any]) -> Any:
    """How many records there are."""
    count = call()
    return _kept(door, call, count, None if isinstance(count, int) and count >= 0 else f"it gives {short(count)}")


def optimizer(door: Door, call: Callable[..., Any], model: Any) -> Any:
    """A torch optimizer."""
    answer = call(model)
    lacking = [name for name in ("step", "zero_grad", "param_groups", "state_dict") if not hasattr(answer, name)]
    wrong = f"it gives {short(answer)}; give a torch.optim.Optimizer" if lacking else None
    return _kept(door, call, answer, wrong)


def compute(door: Door, call: Callable[..., Any]) -> Any:
    """One number for each meaning."""
    numbers = call()
    meanings = door.made.meanings
    wrong = _wrong(numbers, "float", (len(meanings),))
    names = ", ".join(map(str, meanings))
    return _kept(door, call, numbers, None if wrong is None else f"{wrong}: one for each of its meanings, {names}")


def meanings(door: Door, call: Callable[..., Any]) -> Any:
    """A text for each number, by its name."""
    answer = call()
    fits = isinstance(answer, dict) and all(isinstance(each, str) for each in (*answer, *answer.values()))
    return _kept(door, call, answer, None if fits else f"it gives {short(answer)}; give a dict of name to meaning")


def draw(door: Door, call: Callable[..., Any], count: int, grid: Any, schedule: Any, chance: Any) -> Any:
    """Lots of as many pictures, whose `hidden` is bool[N, h, w]."""
    lots = call(count, grid, schedule, chance)
    if not isinstance(lots, Lots):
        return _kept(door, call, lots, f"it gives {short(lots)}; give contracts.Lots")
    wrong = _wrong(lots.hidden, "torch.bool", (count, *grid))
    if (
        wrong is None
        and lots.weight is not None
        and (not _is_tensor(lots.weight) or tuple(lots.weight.shape) != (count,))
    ):
        wrong = f"its weight is {short(lots.weight)}, where {count} numbers are due"
    for name, each in lots.noise.items() if wrong is None else ():
        if not _is_tensor(each) or len(each.shape) == 0 or len(each) != count:
            wrong = f"its noise {name!r} is {short(each)}, of {count} pictures"
    return _kept(door, call, lots, wrong)


def objective(door: Door, call: Callable[..., Any], batch: Any, model: Any) -> Any:
    """A scalar loss that weights can follow, and scalars by name; a number, where all that the model said is numbers.

    That is looked at where it costs no wait: on a CPU each time, elsewhere the first time.
    """
    looks = not door.examined or batch.tokens.device.type == "cpu"
    said = Overheard(model)
    answer = call(batch, said if looks else model)
    door.examined = True
    if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], Mapping):
        return _kept(door, call, answer, f"it gives {short(answer)}; give the loss and a table of figures")
    loss, figures = answer
    wrong = _wrong(loss, "float", ())
    for name, each in figures.items() if wrong is None else ():
        if not _is_tensor(each) or tuple(each.shape) != ():
            wrong = f"its figure {name!r} is {short(each)}; give a scalar tensor"
    if wrong is None and looks and not loss.isfinite() and said.finite():
        wrong = f"its loss is {float(loss.detach())}, and all that the model said is finite"
    return _kept(door, call, answer, wrong)


def quantizer(door: Door, call: Callable[..., Any], size: int, width: int) -> Any:
    """A codebook: a width, and the methods that the contract has."""
    made = call(size, width)
    lacking = [name for name in ("lookup", "tokens", "__call__") if not callable(getattr(made, name, None))]
    wrong = f"it gives {short(made)}, which has no {lacking[0]}" if lacking else None
    found = getattr(made, "width", None)
    if wrong is None and (not isinstance(found, int) or found < 1):
        wrong = f"its codebook's width is {short(found)}; give the latents' width D, a whole number from 1"
    return _kept(door, call, made, wrong)


PROMISES: dict[str, dict[str, Promise]] = {
    "Tokenizer": {"grid_shape": grid_shape, "encode": encode, "decode": decode},
    "Quantizer": {"__call__": quantizer},
    "TextEncoder": {"__call__": text},
    "Transformer": {"condition": condition, "__call__": predict},
    "MaskSchedule": {"__call__": schedule},
    "Guidance": {"__call__": guidance},
    "Sampler": {"__call__": sampler},
    "Editor": {"__call__": editor},
    "Dataset": {"__len__": length, "__getitem__": record},
    "Optimizer": {"__call__": optimizer},
    "Objective": {"draw": draw, "__call__": objective},
    "Metric": {"reset": plain, "update": plain, "compute": compute, "meanings": meanings},
    "Task": {"__call__": plain},
}
"""By contract and method."""


def _kept(door: Door, call: Callable[..., Any], answer: Any, wrong: str | None) -> Any:
    if wrong is not None:
        raise door.broken(wrong, definition(call))
    return answer


def _wrong(value: Any, dtype: str, shape: tuple[int | None, ...]) -> str | None:
    """How a value is no tensor of that dtype ("float" for any such) and shape, where None is any length; else None."""
    kind = dtype.removeprefix("torch.")
    wanted = f"{kind}[{', '.join('any' if each is None else str(each) for each in shape)}]"
    if not _is_tensor(value):
        kind = f"{type(value).__name__} " * hasattr(value, "dtype")
        return f"it gives {kind}{short(value)}, where {wanted} is due"
    right = value.is_floating_point() if dtype == "float" else str(value.dtype) == dtype
    sides = tuple(value.shape)
    fits = len(sides) == len(shape) and all(want in (None, got) for want, got in zip(shape, sides, strict=True))
    return None if right and fits else f"it gives {short(value)}, where {wanted} is due"


def _wrong_codes(tokens: Any, codes: int | None) -> str | None:
    low, high = (int(each) for each in tokens.aminmax())
    if low == MASK:
        return f"{int((tokens == MASK).sum())} tokens are still MASK"
    if low < 0 or (codes is not None and high >= codes):
        most = "" if codes is None else f"; codes go from 0 to {codes - 1}"
        return f"its tokens go from {low} to {high}{most}"
    return None


def _wrong_logits(logits: Any) -> str | None:
    return f"some of {short(logits)} are NaN" if _is_near(logits) and bool(logits.isnan().any()) else None


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "is_floating_point") and hasattr(value, "shape")


def _is_near(tensor: Any) -> bool:
    """Whether its values can be looked at without waiting for a device."""
    return str(tensor.device) == "cpu"
