"""Encoders keep their contract in the forms that tests/contracts, which walks all parts, does not make them in."""

import pytest
from muse_text.clip import CLIP
from muse_text.t5 import T5

from muse_studio import testing


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
