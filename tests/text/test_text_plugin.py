"""The entry module is light, and every name in it leads to an encoder."""

import inspect
import subprocess
import sys
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


def test_the_entry_module_loads_no_torch():
    script = "import sys, muse_text.plugin; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
