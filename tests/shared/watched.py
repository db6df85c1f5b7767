"""Watches the thread of an event loop: torch and pillow have no business there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from PIL import Image, ImageFile
from starlette.types import ASGIApp, Receive, Scope, Send
from torch.overrides import TorchFunctionMode

PILLOW = [(Image, "open"), (Image.Image, "save"), (Image.Image, "convert"), (ImageFile.ImageFile, "load")]


class Watched:
    """`caught`: what of torch and pillow was called in the event loop's thread; `elsewhere`: of pillow in others."""

    def __init__(self) -> None:
        self.caught: list[str] = []
        self.elsewhere = 0

    def within(self, app: ASGIApp) -> ASGIApp:
        """The application, whose event loop is watched as long as it lives."""

        async def watching(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "lifespan":
                await app(scope, receive, send)
                return
            with _Torch(self.caught), self._pillow(threading.get_ident()):
                await app(scope, receive, send)

        return watching

    @contextmanager
    def _pillow(self, loop: int) -> Iterator[None]:
        def noted(target: Any, name: str) -> Any:
            real = getattr(target, name)

            def call(*arguments: Any, **settings: Any) -> Any:
                if threading.get_ident() == loop:
                    self.caught.append(f"pillow's {name}")
                else:
                    self.elsewhere += 1
                return real(*arguments, **settings)

            return patch.object(target, name, call)

        patches = [noted(*each) for each in PILLOW]
        for each in patches:
            each.start()
        try:
            yield
        finally:
            for each in patches:
                each.stop()


class _Torch(TorchFunctionMode):
    """Notes each call of torch's in the thread that enters it."""

    def __init__(self, caught: list[str]) -> None:
        super().__init__()
        self._caught = caught

    def __torch_function__(self, called: Any, types: Any, arguments: Any = (), settings: Any = None) -> Any:
        self._caught.append(f"torch's {getattr(called, '__name__', called)}")
        return called(*arguments, **(settings or {}))
