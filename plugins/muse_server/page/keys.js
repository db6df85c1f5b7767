// @ts-check
/** The keys, and the list of them. While a text field has the focus, only Enter and Escape are heard. */

import { byId, make, onClick, openDialog } from "./dom.js";

const LIST = /** @type {[string[], string][]} */ ([
  [["⏎"], "draw, or take what is staged"],
  [["Esc"], "stop drawing; close; choose none"],
  [["Ctrl", "Z"], "undo"],
  [["Ctrl", "⇧", "Z"], "redo"],
  [["B"], "brush"],
  [["X"], "box"],
  [["E"], "erase"],
  [["F"], "freeze"],
  [["T"], "thaw"],
  [["Alt"], "while painting: take away"],
  [["["], "narrower brush"],
  [["]"], "wider brush"],
  [["G"], "grid"],
  [["A"], "choose all tokens"],
  [["R"], "draw the region anew"],
  [["V"], "variations"],
  [["←", "→"], "staged pictures, or steps"],
  [["1", "…", "9"], "a staged picture"],
  [["Space"], "one step on"],
  [["P"], "play the steps"],
  [["+", "−", "0"], "zoom, fit"],
  [["Ctrl", "wheel"], "zoom; the middle button or two fingers move"],
  [["↑", "↓", "←", "→"], "on the board: walk over the tokens; Space paints"],
  [["?"], "this list"],
]);
const TOOLS = /** @type {Record<string, string>} */ ({ b: "brush", x: "box", e: "erase", f: "freeze", t: "thaw" });

/**
 * @param {{session: import("./session.js").Session, board: import("./tools.js").Board,
 *   tools: ReturnType<typeof import("./tools.js").toolRail>,
 *   deeds: ReturnType<typeof import("./deeds.js").deedBar>, staged: ReturnType<typeof import("./staging.js").staging>,
 *   steps: ReturnType<typeof import("./steps.js").stepRow>,
 *   prompt: ReturnType<typeof import("./prompt.js").promptBar>}} page
 */
export function keys({ session, board, tools, deeds, staged, steps, prompt }) {
  byId("key-list").replaceChildren(
    ...LIST.flatMap(([names, what]) => [
      make("dt", {}, ...names.map((name) => make("kbd", {}, name))),
      make("dd", {}, what),
    ]),
  );
  onClick("keys-open", () => openDialog("keys"));

  const along = (/** @type {number} */ by) => {
    if (!staged.turn(by)) steps.turn(by);
  };
  const enter = () => {
    if (!(staged.any() && staged.take())) prompt.draw();
  };
  const plain = /** @type {Record<string, () => void>} */ ({
    "[": () => tools.resize(board.size - 1),
    "]": () => tools.resize(board.size + 1),
    g: tools.grid,
    a: () => board.all(),
    r: () => deeds.act("reroll"),
    v: () => deeds.edit("variations"),
    p: () => steps.play(),
    ArrowLeft: () => along(-1),
    ArrowRight: () => along(1),
    " ": () => steps.turn(1),
    "+": () => board.zoom(1.25),
    "=": () => board.zoom(1.25),
    "-": () => board.zoom(0.8),
    "−": () => board.zoom(0.8),
    0: () => board.fit(),
    "?": () => openDialog("keys"),
    Enter: enter,
  });

  /** @param {KeyboardEvent} event @returns {boolean} whether it was ours */
  function heard(event) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key,
      target = /** @type {HTMLElement} */ (event.target);
    if (key === "Escape") {
      if (session.job) session.cancel();
      else board.clear();
      return true;
    }
    if (target.matches("input:not([type=checkbox], [type=radio], [type=range]), textarea, select")) return false;
    if (event.ctrlKey || event.metaKey) {
      if (key === "z") tools.back(event.shiftKey);
      else if (key === "y") tools.back(true);
      return key === "z" || key === "y";
    }
    // what has the focus is pressed by them
    if (target.matches("button, a, summary, input, label") && [" ", "Enter"].includes(key)) return false;
    if (target.matches("[type=range], [type=radio], [role=tab]") && key.startsWith("Arrow")) return false;
    if (TOOLS[key] && !event.altKey) {
      tools.use(TOOLS[key]);
      return true;
    }
    if (/^[1-9]$/.test(key) && staged.any()) {
      staged.choose(Number(key) - 1);
      return true;
    }
    if (!plain[key] || event.altKey) return false;
    plain[key]();
    return true;
  }
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (heard(event)) event.preventDefault();
  });
}
