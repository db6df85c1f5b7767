"""Every name in the entry module leads to an encoder."""

import inspect
from importlib import import_module

from muse_text import plugin
from muse_text.frozen import FrozenEncoder


def test_every_target_is_an_encoder_with_a_docstring_of_its_own():
    parts = plugin.muse_text_encoders()
    assert set(parts) == {"t5", "clip", "minilm"}
    for target in parts.values():
        module, _, name = target.partition(":")
        cls = getattr(import_module(module), name)
        assert issubclass(cls, FrozenEncoder) and "length:" in cls.__doc__
        kinds = {parameter.kind for parameter in inspect.signature(cls).parameters.values()}
        assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
