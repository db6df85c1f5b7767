"""A plugin's fault is named as that: plugin, part, file and line, and the promise; what is ours stays ours.

Each fault is a part in a file of its own, among the fakes of `muse_studio.testing`. `# here` marks its line.
"""

from __future__ import annotations

import sys
import textwrap

import pytest
import torch

import muse_studio
from muse_studio.errors import PluginError
from muse_studio.sampling.stage import Stage

GOOD = """
from muse_studio import hookimpl
from muse_studio.testing import fakes

@hookimpl
def muse_tokenizers():
    return {"good": fakes.FakeTokenizer}

@hookimpl
def muse_text_encoders():
    return {"good": fakes.FakeTextEncoder}

@hookimpl
def muse_transformers():
    return {"good": fakes.FakeTransformer}

@hookimpl
def muse_schedules():
    return {"good": fakes.FakeSchedule}

@hookimpl
def muse_guidances():
    return {"good": fakes.FakeGuidance}

@hookimpl
def muse_samplers():
    return {"good": fakes.FakeSampler}

@hookimpl
def muse_editors():
    return {"good": fakes.FakeEditor}

@hookimpl
def muse_datasets():
    return {"good": fakes.FakeDataset}
"""
ODD = """
import torch
from muse_studio import hookimpl
from muse_studio.testing import fakes

{source}

@hookimpl
def muse_{hook}():
    return {{"odd": Odd}}
"""
MODEL = """
text_encoder: good
stages: {base: {tokenizer: good, transformer: good, schedule: good, sampler: good, guidance: good, size: 16}}
"""
DRAW = f"use: generate\nprompt: a cat\n{MODEL}"
EDIT = f"use: edit\neditor: good\npicture: red.png\nregion: 0,0,8,8\n{MODEL}"
EVALUATE = f"use: evaluate\ndataset: {{use: good, size: 16}}\nn: 2\n{MODEL}"
TRAIN = f"use: train\ndataset: {{use: good, size: 16}}\noptimizer: adamw\n{MODEL}fit: {{out: fit, steps: 2, batch: 2}}"
PLACES = {
    "sampler": "stages.base.sampler=odd",
    "guidance": "stages.base.guidance=odd",
    "transformer": "stages.base.transformer=odd",
    "schedule": "stages.base.schedule=odd",
    "tokenizer": "stages.base.tokenizer=odd",
    "text-encoder": "text_encoder=odd",
    "editor": "editor=odd",
    "dataset": "dataset=odd",
    "metric": "metrics={m: odd}",
    "optimizer": "optimizer=odd",
    "observer": "observers=[odd]",
}
CALL = "def __call__(self, predict, tokens, schedule, generator):"


def sampler(body: str, head: str = f"    steps = 2\n    {CALL}\n") -> str:
    return f"class Odd:\n{head}{textwrap.indent(textwrap.dedent(body).strip(), ' ' * 8)}\n"


def fake(base: str, method: str) -> str:
    return f"class Odd(fakes.{base}):\n{textwrap.indent(textwrap.dedent(method).strip(), ' ' * 4)}\n"


FLOATS = "def __getitem__(self, index):  # here\n    return {'image': torch.rand(3, 9, 9), 'caption': ''}"
EMBED = "def __call__(self, prompts):  # here\n    t = super().__call__(prompts)\n    return t._replace(states=t.mask)"
SAMPLERS = {
    "has no steps": (sampler("yield tokens", f"    {CALL}\n"), "it has no steps; promised: Sampler.steps: int"),
    "has steps that are no number": (
        sampler("yield tokens", f"    steps = '2'\n    {CALL}\n"),
        "its steps is '2'; promised: Sampler.steps: int",
    ),
    "has a property that raises": (
        "class Odd:\n    @property\n    def steps(self):\n        return self.gone['x']  # here\n"
        f"    gone = {{}}\n    {CALL}\n        yield tokens\n",
        "KeyError: 'x'",
    ),
    "has a getattr that raises": (
        sampler("yield tokens")
        + "    def __getattr__(self, name):\n        raise RuntimeError('nothing here')  # here\n",
        "RuntimeError: nothing here",
    ),
    "takes too little": (
        sampler("yield tokens", "    steps = 2\n    def __call__(self, predict, tokens):  # here\n"),
        "and is called with 4 arguments: too many positional arguments; promised: Sampler.__call__(predict, tokens, ",
    ),
    "has no call": ("class Odd:  # here\n    steps = 2\n", "it has no __call__; promised: Sampler.__call__"),
    "returns nothing": (
        sampler("predict(tokens, 0.0)", f"    steps = 2\n    {CALL}  # here\n"),
        "it returns None; yield a grid each step; promised: Sampler.__call__",
    ),
    "returns a tensor": (
        sampler("return tokens", f"    steps = 2\n    {CALL}  # here\n"),
        "it returns int64[1, 4, 4]; yield",
    ),
    "yields nothing": (
        sampler("yield from ()", f"    steps = 2\n    {CALL}  # here\n"),
        "it yields nothing; promised: Sampler.__call__",
    ),
    "yields no tensor": (sampler("yield [1]  # here"), "step 1: it gives [1], where int64[1, 4, 4] is due; promised"),
    "yields another shape": (
        sampler("yield tokens.clamp(min=0)\nyield tokens[0]  # here"),
        "step 2: it gives int64[4, 4], where int64[1, 4, 4] is due; promised",
    ),
    "yields another dtype": (sampler("yield tokens.float()  # here"), "step 1: it gives float32[1, 4, 4], where int64"),
    "leaves MASK": (
        sampler("yield tokens", f"    steps = 2\n    {CALL}  # here\n"),
        "the last grid, of step 1: 16 tokens are still MASK; promised: Sampler.__call__",
    ),
    "yields what is no code": (
        sampler("yield tokens + 65", f"    steps = 2\n    {CALL}  # here\n"),
        "its tokens go from 64 to 64; codes go from 0 to 63; promised",
    ),
    "raises at the third step": (
        sampler("for step in range(4):\n    yield tokens * (1 // (2 - step))  # here"),
        "ZeroDivisionError: integer division or modulo by zero; promised: Sampler.__call__",
    ),
    "has torch raise": (
        sampler("yield torch.cat([tokens, tokens[0]])  # here"),
        "RuntimeError: Tensors must have same number of dimensions: got 3 and 2; promised",
    ),
    "asks for another grid": (
        sampler("predict(tokens[:, :2], 0.5)  # here\nyield tokens"),
        "ValueError: predict is asked for int64[1, 2, 4]; give the whole grid, int64[1, 4, 4]; promised",
    ),
    "asks without progress": (sampler("predict(tokens)  # here\nyield tokens"), "TypeError: "),
    "breaks when it is made": (
        "class Odd:\n    steps = 2\n    def __init__(self):\n        self.x = None + 1  # here\n"
        f"    {CALL}\n        yield tokens\n",
        "broke while it was made: TypeError: unsupported operand",
    ),
}
OTHERS = {
    "guidance: another shape": (
        fake("FakeGuidance", "def __call__(self, ask, text, *more):  # here\n    return ask(text)[0][:, 0]"),
        "it gives float32[1, 4, 64], where float[1, 4, 4, 64] is due; promised: Guidance.__call__(ask, text, ",
    ),
    "guidance: returns the tuple": (
        fake("FakeGuidance", "def __call__(self, ask, text, *more):  # here\n    return ask(text)"),
        "where float[1, 4, 4, 64] is due; promised: Guidance.__call__",
    ),
    "guidance: asks for a text": (
        fake("FakeGuidance", "def __call__(self, ask, text, *more):\n    return ask('a cat')[0]  # here"),
        "ValueError: ask takes texts, each a TextEmbedding or None, and Questions; got 'a cat'; promised: Guidance",
    ),
    "transformer: NaN": (
        fake("FakeTransformer", "def forward(self, tokens, c):  # here\n    return super().forward(tokens, c) / 0 * 0"),
        "some of float32[2, 4, 4, 64] are NaN; promised: Transformer.__call__",
    ),
    "transformer: another shape": (
        fake("FakeTransformer", "def forward(self, t, c):  # here\n    return super().forward(t, c)[..., :9]"),
        "it gives float32[2, 4, 4, 9], where float[2, 4, 4, 64] is due; promised: Transformer.__call__",
    ),
    "transformer: no forward": (
        "class Odd(torch.nn.Module):  # here\n    codebook_size, text_width = 64, 8\n"
        "    def __init__(self):\n        super().__init__()\n"
        "    def condition(self, text, low=None):\n        return ()\n",
        "it has no forward; promised: Transformer.__call__",
    ),
    "transformer: no tuple": (
        fake("FakeTransformer", "def condition(self, text, low=None):  # here\n    return text.states"),
        "it gives float32[1, 8, 8]; give a tuple of tensors; promised: Transformer.condition",
    ),
    "text-encoder: a tensor": (
        fake("FakeTextEncoder", "def __call__(self, prompts):  # here\n    return super().__call__(prompts).states"),
        "it gives float32[1, 8, 8]; give a TextEmbedding; promised: TextEncoder.__call__",
    ),
    "text-encoder: another width": (
        fake("FakeTextEncoder", EMBED),
        "it gives bool[1, 8], where float[1, any, 8] is due; promised: TextEncoder.__call__",
    ),
    "schedule: a float": (
        fake("FakeSchedule", "def __call__(self, progress):  # here\n    return 0.5"),
        "it gives 0.5, where float[] is due; promised: MaskSchedule.__call__",
    ),
    "schedule: rises": (
        fake("FakeSchedule", "def __call__(self, progress):  # here\n    return progress"),
        "it goes from 0 at 0 to 1 at 1; it must go from 1 to 0; promised: MaskSchedule.__call__",
    ),
    "tokenizer: bytes": (
        fake("FakeTokenizer", "def decode(self, tokens):  # here\n    return super().decode(tokens).byte()"),
        "it gives uint8[1, 3, 16, 16], where float[1, 3, any, any] is due; promised: Tokenizer.decode",
    ),
    "tokenizer: four channels": (
        fake("FakeTokenizer", "def decode(self, tokens):  # here\n    return super().decode(tokens)[:, [0, 1, 2, 2]]"),
        "it gives float32[1, 4, 16, 16], where float[1, 3, any, any] is due; promised: Tokenizer.decode",
    ),
    "tokenizer: NaN": (
        fake("FakeTokenizer", "def decode(self, tokens):  # here\n    return super().decode(tokens) * float('nan')"),
        "it gives float32[1, 3, 16, 16] with NaN or infinity; promised: Tokenizer.decode",
    ),
    "tokenizer: another size": (
        fake("FakeTokenizer", "def decode(self, tokens):  # here\n    return super().decode(tokens)[:, :, :8, :8]"),
        "it gives float32[1, 3, 8, 8] of int64[1, 4, 4], and its own grid_shape makes [2, 2] of that; promised",
    ),
    "tokenizer: a grid of one side": (
        fake("FakeTokenizer", "def grid_shape(self, height, width):  # here\n    return height // 4"),
        "it gives 4; give (h, w); promised: Tokenizer.grid_shape(height, width)",
    ),
}  # fmt: skip
EDITS = {
    "editor: nothing": (
        fake("FakeEditor", "def __call__(self, tokens, region, again, _):  # here\n    return None"),
        "it returns None; yield a grid each step; promised: Editor.__call__",
    ),
    "editor: outside of the region": (
        fake("FakeEditor", "def __call__(self, tokens, region, again, _):  # here\n    yield tokens * 0 + 1"),
        "tokens that were known are changed; promised: Editor.__call__",
    ),
    "editor: another grid": (
        fake("FakeEditor", "def __call__(self, t, region, again, _):\n    yield from again(t[:, 1:])  # here"),
        "ValueError: resample is asked for int64[1, 3, 4]; give the whole grid, int64[1, 4, 4]; promised",
    ),
    "tokenizer: floats": (
        fake("FakeTokenizer", "def encode(self, images):  # here\n    return super().encode(images).float()"),
        "it gives float32[1, 4, 4], where int64[1, 4, 4] is due; promised: Tokenizer.encode",
    ),
    "tokenizer: no codes": (
        fake("FakeTokenizer", "def encode(self, images):  # here\n    return super().encode(images) + 64"),
        "codes go from 0 to 63; promised: Tokenizer.encode",
    ),
}  # fmt: skip
METRIC = """
class Odd:
    least = 1
    meanings = {{"a": "one", "b": "two"}}
    def reset(self):
        pass
    def update(self, real, generated, prompts{more}
        pass
    def compute(self):{compute}
"""
EVALUATIONS = {
    "metric: fewer numbers": (
        METRIC.format(more="):", compute="  # here\n        return torch.zeros(1)"),
        "it gives float32[1], where float[2] is due: one for each of its meanings, a, b; promised: Metric.compute",
    ),
    "metric: a signature": (
        METRIC.format(more=", weights):  # here", compute="\n        return torch.zeros(2)"),
        "and is called with 3 arguments: missing a required argument: 'weights'; promised: Metric.update",
    ),
    "metric: a bug": (
        METRIC.format(more="):", compute="\n        return self.total  # here"),
        "AttributeError: 'Odd' object has no attribute 'total'; promised: Metric.compute",
    ),
    "dataset: other keys": (
        fake("FakeDataset", "def __getitem__(self, i):  # here\n    return {'picture': 1, 'caption': 'x'}"),
        "record 0 has no 'image', but {picture, caption}; promised: Dataset.__getitem__",
    ),
}
TRAININGS = {
    "dataset: another dtype": (
        fake("FakeDataset", FLOATS),
        "record 0, image: it gives float32[3, 9, 9], where uint8[3, any, any] is due; promised: Dataset.__getitem__",
    ),
    "optimizer: nothing": (
        "class Odd:\n    def __call__(self, model):  # here\n        pass\n",
        "it gives None; give a torch.optim.Optimizer; promised: Optimizer.__call__",
    ),
    "transformer: a bug": (
        fake("FakeTransformer", "def forward(self, tokens, conditioning):\n    return self.tabel(tokens)  # here"),
        "AttributeError: 'Odd' object has no attribute 'tabel'",
    ),
}  # fmt: skip
CASES = [
    *(("generate", DRAW, f"sampler: {name}", *case) for name, case in SAMPLERS.items()),
    *(("generate", DRAW, name, *case) for name, case in OTHERS.items()),
    *(("edit", EDIT, name, *case) for name, case in EDITS.items()),
    *(("evaluate", EVALUATE, name, *case) for name, case in EVALUATIONS.items()),
    *(("train", TRAIN, name, *case) for name, case in TRAININGS.items()),
]


@pytest.fixture
def world(here):
    """Writes the good plugin, the recipes, a picture, and a plugin odd.py with a part 'odd'; gives its marked line."""
    from PIL import Image

    (here / "good.py").write_text(GOOD, encoding="utf-8")
    Image.new("RGB", (16, 16), "red").save(here / "red.png")

    def world(recipe: str, kind: str, source: str) -> str:
        text = ODD.format(source=source, hook=f"{kind.replace('-', '_')}s")
        (here / "odd.py").write_text(text, encoding="utf-8")
        (here / "recipe.yaml").write_text(recipe, encoding="utf-8")
        marked = [number for number, line in enumerate(text.splitlines(), 1) if line.endswith("# here")]
        return f"odd.py:{marked[0]}: " if marked else "odd.py:"

    yield world
    for name in [each for each in sys.modules if each.startswith(("muse_plugin_odd_", "muse_plugin_good_"))]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("recipe", "name", "source", "promise"), [case[1:] for case in CASES], ids=lambda each: each[:40]
)
def test_a_fault_is_named(recipe, name, source, promise, world, muse):
    kind = name.partition(":")[0]
    place = world(recipe, kind, source)
    code, _, err = muse("run", "recipe.yaml", PLACES[kind], "--plugin", "good.py", "--plugin", "odd.py")
    assert err.startswith("error in a plugin: "), err
    assert f"{kind} 'odd' of plugin odd, " in err and place in err and promise in err
    assert "not yours" not in err and err.endswith("\nMUSE_TRACEBACK=1 shows the whole traceback\n")
    assert code == 1


GENERATE = ("run", "recipe.yaml", "--plugin", "good.py", "--plugin", "odd.py")


def test_from_python_it_is_a_plugin_error_with_its_cause(world):
    world(DRAW, "sampler", sampler("yield tokens\n1 / 0"))
    with pytest.raises(PluginError, match=r"sampler 'odd' of plugin odd, .*odd\.py:") as error:
        muse_studio.run("recipe.yaml", [PLACES["sampler"]], plugins=["good.py", "odd.py"])
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_the_whole_traceback_is_shown_where_it_is_asked_for(world, capfd, monkeypatch):
    from muse_studio.cli import main

    world(DRAW, "sampler", sampler("yield tokens\n1 / 0"))
    monkeypatch.setenv("MUSE_TRACEBACK", "1")
    assert main([*GENERATE, PLACES["sampler"]]) == 1
    err = capfd.readouterr().err
    assert "ZeroDivisionError: division by zero\n" in err and "in __call__\n    1 / 0" in err


def test_a_part_in_a_sweep(world, muse):
    place = world(
        f"use: sweep\nsettings: {{seed: [1, 2]}}\nrecipe: {{use: generate, prompt: x, {_flow(MODEL)}}}\n",
        "sampler",
        sampler("1 / 0  # here\nyield tokens"),
    )
    code, out, err = muse(*GENERATE, "recipe.stages.base.sampler=odd")
    assert (code, out) == (1, "") and err.startswith("error in a plugin: sampler 'odd' of plugin odd, ")
    assert f"{place}ZeroDivisionError" in err


def _flow(model: str) -> str:
    return ", ".join(line for line in model.strip().splitlines())


def test_a_data_set_that_fails_in_another_process(world, muse):
    place = world(
        TRAIN, "dataset", fake("FakeDataset", "def __getitem__(self, i):\n    return [0][i - i // 2 or 2]  # here")
    )
    code, out, err = muse(*GENERATE, "dataset={use: odd, size: 16}", "fit.workers=1", "fit.overfit=true")
    assert (code, out) == (1, ""), err
    assert err.startswith("error in a plugin: ") and "plugin odd, " in err and f"{place}IndexError" in err


def test_a_data_set_that_breaks_its_promise_in_another_process(world, muse):
    source = "def __getitem__(self, i):  # here\n    r = super().__getitem__(i)\n    return r if i == 0 else {}"
    place = world(TRAIN, "dataset", fake("FakeDataset", source))
    code, out, err = muse(*GENERATE, "dataset={use: odd, size: 16}", "fit.workers=1")
    assert (code, out) == (1, ""), err
    assert err.startswith("error in a plugin: dataset 'odd' of plugin odd, ")
    assert f"{place}record " in err and "has no 'image' and no 'caption'" in err and "Caught" not in err


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("hook.muse_stepp(step=1)  # here", "task 'odd' of plugin odd, "),
        ("return Result()", "plugin odd, "),
        ("from muse_studio.images.naming import check_prompt; check_prompt(3)  # here", "task 'odd' of plugin odd, "),
    ],
)
def test_a_task(body, message, world, muse):
    source = f"class Result:\n    def summary(self):\n        return 1 / 0{'' if '# here' in body else '  # here'}\n"
    place = world("use: odd\n", "task", f"{source}class Odd:\n    def __call__(self, hook):\n        {body}\n")
    code, out, err = muse(*GENERATE)
    assert (code, out) == (1, "") and err.startswith(f"error in a plugin: {message}") and place in err


def test_an_observer_with_another_signature(world, muse):
    world(DRAW, "observer", "class Odd:\n    @hookimpl\n    def muse_step(self, stagd):\n        pass\n")
    code, out, err = muse(*GENERATE, PLACES["observer"])
    assert (code, out) == (1, "") and err.startswith("error in a plugin: observer 'odd' of plugin odd, ")
    assert "odd.py:" in err and "stagd" in err


class TestFromPython:
    """What a bug of a plugin is when no command asked, but a script did."""

    BROKEN = sampler("yield tokens\nraise LookupError('the tape is torn')  # here")

    @pytest.fixture
    def model(self, world):
        world(MODEL, "sampler", self.BROKEN)
        return muse_studio.load("recipe.yaml", [PLACES["sampler"]], ["good.py", "odd.py"])

    def check(self, action):
        with pytest.raises(
            PluginError, match=r"sampler 'odd' of plugin odd, .*odd\.py:\d+: LookupError: the tape is torn"
        ):
            action()

    def test_drawing(self, model):
        self.check(lambda: model.draw("a cat"))

    def test_steps(self, model):
        self.check(lambda: list(model.steps("a cat")))

    def test_editing(self, model):
        picture = muse_studio.to_image(torch.zeros(3, 16, 16))
        self.check(lambda: model.edit(picture, (0, 0, 8, 8), "a hat"))

    def test_a_canvas(self, model):
        self.check(lambda: model.canvas().generate("a cat"))

    def test_what_the_caller_breaks_is_the_caller_s(self, model):
        with pytest.raises(TypeError, match="prompt"):
            model.draw(3)


class TestOursStaysOurs:
    """A bug of ours is no plugin's, even where a plugin's part has called what breaks."""

    ASKS = sampler("yield predict(tokens, 0.5).argmax(-1)")

    def broken(self, *given, **named):
        return {}["a bug of ours"]

    def check_ours(self, muse, *more):
        code, out, err = muse(*GENERATE, *more)
        assert (code, out) == (1, "") and err.startswith("error that is not yours: KeyError: 'a bug of ours' ("), err

    def test_in_our_own_sampler(self, world, muse, monkeypatch):
        from muse_sampling.confidence import Confidence

        monkeypatch.setattr(Confidence, "__call__", self.broken)
        world(DRAW, "sampler", self.ASKS)
        self.check_ours(muse, "stages.base.sampler=confidence")

    def test_below_a_plugin_s_sampler(self, world, muse, monkeypatch):
        world(DRAW, "sampler", self.ASKS)
        monkeypatch.setattr(Stage, "logits", self.broken)
        self.check_ours(muse, PLACES["sampler"])

    def test_below_a_plugin_s_guidance(self, world, muse, monkeypatch):
        world(DRAW, "guidance", "Odd = fakes.FakeGuidance\n")
        monkeypatch.setattr(Stage, "condition", self.broken)
        self.check_ours(muse, PLACES["guidance"])

    def test_in_the_decoding(self, world, muse, monkeypatch):
        world(DRAW, "sampler", self.ASKS)
        monkeypatch.setattr(Stage, "decode", self.broken)
        self.check_ours(muse, PLACES["sampler"])

    def test_below_a_plugin_s_task(self, world, muse, monkeypatch, here):
        runs = "from muse_studio import run\nclass Odd:\n    def __call__(self, hook):\n        run('drawn.yaml', [], "
        world("use: odd\n", "task", f"{runs}['good.py'])\n")
        (here / "drawn.yaml").write_text(DRAW, encoding="utf-8")
        monkeypatch.setattr(Stage, "logits", self.broken)
        self.check_ours(muse)

    def test_a_refusal_is_the_user_s(self, world, muse):
        world(
            DRAW,
            "sampler",
            sampler("from muse_studio import UserError\nraise UserError('not today')\nyield"),
        )
        assert muse(*GENERATE, PLACES["sampler"]) == (2, "", "error: not today\n")

    def test_an_interrupt_is_one(self, world, muse):
        world(DRAW, "sampler", sampler("raise KeyboardInterrupt\nyield"))
        assert muse(*GENERATE, PLACES["sampler"])[0] == 130

    def test_want_of_memory_is_the_machine_s(self, world, muse):
        world(DRAW, "sampler", sampler("raise MemoryError\nyield"))
        code, _, err = muse(*GENERATE, PLACES["sampler"])
        assert code == 2 and err.startswith("error: there is not enough memory")


def test_a_good_plugin_draws_what_the_parts_alone_draw(world, muse):
    from muse_studio.testing.tiny import tiny_stage

    world(DRAW, "sampler", "Odd = fakes.FakeSampler\n")
    result = muse_studio.run("recipe.yaml", [PLACES["sampler"]], plugins=["good.py", "odd.py"])
    (drawn,) = result.images
    stage = tiny_stage()
    assert drawn.size == (stage.width, stage.height)


class TestChecked:
    """The parts of a third party, once they are made."""

    @pytest.fixture
    def stage(self, world):
        world(MODEL, "transformer", "Odd = fakes.FakeTransformer\n")
        return muse_studio.load("recipe.yaml", [PLACES["transformer"]], ["good.py", "odd.py"]).stages["base"]

    def test_they_are_of_their_class_and_called_alike(self, stage):
        from muse_studio.testing.fakes import FakeTransformer

        assert isinstance(stage.transformer, FakeTransformer)
        assert type(stage.transformer).__qualname__ == "FakeTransformer"
        assert list(stage.transformer.state_dict()) == list(FakeTransformer().state_dict())

    def test_a_copy_is_of_the_class_that_was_written(self, stage):
        import copy

        from muse_studio.testing.fakes import FakeTransformer

        twin = copy.deepcopy(stage.transformer)
        assert type(twin) is FakeTransformer
        assert all(map(torch.equal, twin.state_dict().values(), stage.transformer.state_dict().values()))

    def test_a_compiled_graph_holds_no_check(self, stage):
        from muse_studio.testing.fakes import embedding

        conditioning = stage.condition(embedding(1))
        compiled = torch.compile(stage.transformer, fullgraph=True, dynamic=False, backend="eager")
        tokens = stage.blank(1)
        assert torch.equal(compiled(tokens, conditioning), stage.transformer(tokens, conditioning))

    def test_the_default_parts_are_as_they_were_written(self, world):
        from muse_sampling.confidence import Confidence

        world(MODEL, "sampler", "Odd = fakes.FakeSampler\n")
        given = ["stages.base.sampler=confidence"]
        made = muse_studio.load("recipe.yaml", given, ["good.py", "odd.py"]).stages["base"]
        assert type(made.sampler) is Confidence


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        "def __getitem__(self, i):\n    return super().__getitem__(i) if i == 0 else [0][2]  # here",
        "def __getitem__(self, i):  # here\n    r = super().__getitem__(i)\n    return r if i == 0 else {}",
        "def __getitem__(self, i):\n    from muse_studio.errors import UserError\n    if i:\n"
        "        raise UserError('pictures/a.png is gone; bring it back')\n    return super().__getitem__(i)  # here",
    ],
)
def test_the_same_is_said_with_and_without_workers(world, muse, source):
    world(TRAIN, "dataset", fake("FakeDataset", source))
    told = [
        muse(*GENERATE, "dataset={use: odd, size: 16}", f"fit.out=run{count}", f"fit.workers={count}")
        for count in (0, 2)
    ]
    assert told[0] == told[1]
    assert told[0][0] in (1, 2) and told[0][2].startswith("error") and "Caught" not in told[0][2]
