"""The board as a widget of Jupyter: the page's own, with a link to the kernel in place of one to a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from muse_server.notebook.hand import Hand
from muse_server.work.failures import failure
from muse_studio.errors import UserError
from muse_studio.sampling.editing.canvas import Canvas

_HERE = Path(__file__).parent
_FILES = (_HERE.parent / "page" / "board.js", _HERE / "widget.js")
SCRIPT = "\n".join(path.read_text(encoding="utf-8") for path in _FILES)
"""One module, as a widget's can import no other."""


class Board(anywidget.AnyWidget):
    """A canvas to draw on in a notebook: the tokens are painted, and seen as they are drawn.

        canvas = muse_studio.load("models/emoji").canvas()
        board = muse_server.Board(canvas)
        board

    It draws in a thread, so that other cells can run meanwhile, and `canvas` is then what was drawn. Show it in as many
    cells as you like. height: of the board in pixels, as a page has them.
    """

    _esm = SCRIPT
    _css = (_HERE / "widget.css").read_text(encoding="utf-8")
    height = traitlets.Int(420).tag(sync=True)

    def __init__(self, canvas: Canvas, height: int = 420) -> None:
        super().__init__(height=height)
        self._hand = Hand(canvas, self._tell)
        self.on_msg(self._heard)

    @property
    def canvas(self) -> Canvas:
        """What is drawn on."""
        return self._hand.canvas

    @property
    def busy(self) -> bool:
        """Whether something is being drawn."""
        return self._hand.busy

    def cancel(self) -> bool:
        """Stop what is drawn, after the step that it is at; False where nothing is."""
        return self._hand.cancel()

    def refresh(self) -> None:
        """Show the canvas as it is, where a cell of the notebook has changed it."""
        self._tell("state", self._hand.state())

    def close(self) -> None:
        """Stop what is drawn, and take the widget away; the canvas stays."""
        self._hand.close()
        super().close()

    def _tell(self, name: str, data: dict[str, Any]) -> None:
        self.send({"name": name, "data": data})

    def _heard(self, widget: Any, message: Any, buffers: Any) -> None:
        """What a view of it sends: that it is there, an action, or that it stops."""
        try:
            if "act" in message:
                self._hand.act(message["act"])
            elif "cancel" in message:
                self.cancel()
            else:
                self.refresh()
        except UserError as error:
            self._tell("refused", failure(error))
