// @ts-check
/** The tools beside the board: which one paints, how wide, over whose tokens; the grid, the zoom, undo and redo. */

import { byId, make, onClick } from "./dom.js";
import { recall, remember } from "./memory.js";

/** @typedef {ReturnType<typeof import("./board.js").board>} Board */

/** @param {import("./session.js").Session} session @param {Board} board */
export function toolRail(session, board) {
  const tools = /** @type {HTMLButtonElement[]} */ ([...document.querySelectorAll("[data-tool]")]);

  /** @param {string} name */
  function use(name) {
    board.use(/** @type {any} */ (name));
    for (const each of tools) each.setAttribute("aria-pressed", String(each.dataset.tool === name));
  }
  /** @param {number} size */
  function resize(size) {
    const width = Math.min(Number(byId("size").max), Math.max(1, size));
    byId("size").value = byId("size-told").value = String(width);
    board.resize(width);
  }
  /** @param {boolean} on */
  function grid(on) {
    board.grid(on);
    byId("grid").setAttribute("aria-pressed", String(on));
    remember("grid", on);
  }
  const gridded = () => byId("grid").getAttribute("aria-pressed") === "true";

  for (const each of tools) each.addEventListener("click", () => use(/** @type {string} */ (each.dataset.tool)));
  byId("size").addEventListener("input", () => resize(Number(byId("size").value)));
  byId("among").addEventListener("change", () => board.among(byId("among").value || null));
  onClick("grid", () => grid(!gridded()));
  onClick("zoom-in", () => board.zoom(1.25));
  onClick("zoom-out", () => board.zoom(0.8));
  onClick("zoom-fit", () => board.fit());

  /** Strokes that chose are taken back first, then what was done to the canvas. @param {boolean} again */
  function back(again) {
    if (!board.unstroke(again) && !session.job) session.send({ do: again ? "redo" : "undo" });
  }
  onClick("undo", () => back(false));
  onClick("redo", () => back(true));
  grid(recall("grid", true));

  function offer() {
    byId("undo").disabled = !board.strokes() && (!session.state?.place || Boolean(session.job));
    byId("redo").disabled = !board.strokes(true) && (!session.state?.redo || Boolean(session.job));
  }
  byId("board").addEventListener("region", offer);
  session.listen((name, data) => {
    if (name !== "step") offer();
    if (name === "sent" && !["undo", "redo"].includes(data.do)) board.settle();
    if (name !== "state" && name !== "done") return;
    const stages = Object.keys((name === "done" ? data.state : data).grids);
    if (byId("among").options.length === stages.length + 1) return;
    byId("among").replaceChildren(
      make("option", { value: "" }, "auto"),
      ...stages.map((stage) => make("option", { value: stage }, stage)),
    );
  });
  return { use, resize, grid: () => grid(!gridded()), back };
}
