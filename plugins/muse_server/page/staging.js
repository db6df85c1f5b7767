// @ts-check
/**
 * What was drawn and is not taken yet: shown in place one after the other, until one is taken or all are thrown away.
 */

import { byId, make, onClick } from "./dom.js";

/** @param {import("./session.js").Session} session @param {import("./tools.js").Board} board */
export function staging(session, board) {
  /** @type {{index: number, image: string, seed: number}[]} */ let drawn = [];
  /** @type {string | null} */ let job = null;
  let at = -1;

  function build() {
    byId("staged").hidden = !drawn.length;
    byId("staged-told").textContent = drawn.length === 1 ? "Take this one?" : `Which one of these ${drawn.length}?`;
    byId("choices").replaceChildren(
      ...drawn.map((each, i) =>
        make(
          "button",
          {
            type: "button",
            class: "choice",
            "aria-pressed": String(i === at),
            "aria-label": `Number ${i + 1}, seed ${each.seed}`,
            onclick: () => choose(i),
          },
          make("img", { src: each.image, alt: "" }),
          make("kbd", {}, String(i + 1)),
        ),
      ),
    );
  }

  /** @param {number} i */
  function choose(i) {
    if (!drawn[i]) return;
    at = i;
    build();
    const [stage, { grid }] = /** @type {[string, any]} */ (Object.entries(session.state.grids)[0]);
    const all = btoa("\xff".repeat(Math.ceil((grid[0] * grid[1]) / 8)));
    board.show({ image: drawn[i].image, stage, grid, known: all });
  }

  function empty() {
    if (drawn.length) board.show(null);
    drawn = [];
    at = -1;
    build();
  }

  /** @param {any} state */
  function adopt(state) {
    if (!state.staged?.length) {
      empty();
      return;
    }
    job = state.staged_job;
    drawn = [...state.staged].sort((a, b) => a.index - b.index);
    choose(at >= 0 && at < drawn.length ? at : 0);
  }

  function take() {
    if (at < 0 || !job || session.job) return false;
    session.accept(job, drawn[at].index);
    return true;
  }
  /** @param {number} by */
  function turn(by) {
    if (!drawn.length) return false;
    choose((at + by + drawn.length) % drawn.length);
    return true;
  }

  onClick("take", take);
  onClick("discard", () => session.send({ do: "discard" }));
  onClick("staged-before", () => turn(-1));
  onClick("staged-next", () => turn(1));
  session.listen((name, data) => {
    if (name === "opened" || name === "started") empty();
    if (name === "state") adopt(data);
    if (name === "done") adopt(data.state);
    if (name === "staged") {
      job = data.job;
      drawn = [...drawn.filter((each) => each.index !== data.index), data].sort((a, b) => a.index - b.index);
      build();
    }
  });
  return { take, turn, choose, any: () => drawn.length > 0 };
}
