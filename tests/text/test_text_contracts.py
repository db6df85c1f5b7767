"""The encoders keep the contract that anyone's encoder must keep."""

import pytest
from muse_text.clip import CLIP
from muse_text.minilm import MiniLM
from muse_text.t5 import T5

from muse_studio import testing


class TestMiniLM(testing.TextEncoderContract):
    def make(self):
        return MiniLM()


class TestT5(testing.TextEncoderContract):
    @pytest.fixture(autouse=True)
    def folder(self, t5_folder):
        self.model = str(t5_folder)

    def make(self):
        return T5(self.model, length=16)


class TestCLIP(testing.TextEncoderContract):
    @pytest.fixture(autouse=True)
    def folder(self, clip_folder):
        self.model = str(clip_folder)

    def make(self):
        return CLIP(self.model, length=16)
