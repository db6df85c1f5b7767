// @ts-check
/**
 * What can be done to what is chosen, or to the whole picture; the editors' buttons are made of the parts there are.
 */

import { byId, make, onClick } from "./dom.js";
import { recall, remember } from "./memory.js";

const NAMES = /** @type {Record<string, string>} */ ({ "mask-free": "Edit by words", variations: "Variations" });
const SAME = "inpaint"; // the editor of which "Draw anew" is the button

/**
 * @param {import("./session.js").Session} session @param {import("./tools.js").Board} board
 * @param {ReturnType<typeof import("./prompt.js").promptBar>} prompt
 * @param {{editor: (name: string) => object}} settings
 */
export function deedBar(session, board, prompt, settings) {
  const buttons = /** @type {HTMLButtonElement[]} */ ([...document.querySelectorAll("[data-do]")]);
  let chosen = 0;

  byId("at-once").checked = recall("at-once", true);
  byId("at-once").addEventListener("change", () => remember("at-once", byId("at-once").checked));
  const staged = () => {
    const count = prompt.count();
    return count > 1 ? { count } : byId("at-once").checked ? {} : { staged: true };
  };

  /** @param {string} what */
  function act(what) {
    if (session.job) return;
    const region = board.region();
    const { prompt: words, ...rest } = /** @type {any} */ (prompt.how());
    const how = { ...rest, ...(words ? { prompt: words } : {}) };
    if (what === "reroll") session.send({ do: "reroll", ...(region ? { region } : {}), ...how, ...staged() });
    else if (what === "fill") session.send({ do: "fill", ...how, ...staged() });
    else session.send({ do: what, ...(region ? { region } : {}) });
  }

  /** @param {string} name */
  function edit(name) {
    if (session.job) return;
    const region = board.region();
    session.send({
      do: "edit",
      editor: settings.editor(name),
      ...(region ? { region } : {}),
      ...prompt.how(),
      ...staged(),
    });
  }

  for (const each of buttons) each.addEventListener("click", () => act(/** @type {string} */ (each.dataset.do)));
  onClick("unchoose", () => board.clear());

  /** @param {{name: string, about: string}[]} editors */
  function offer(editors) {
    byId("editors").replaceChildren(
      ...editors
        .filter((each) => each.name !== SAME)
        .map((each) =>
          make(
            "button",
            {
              type: "button",
              title: each.about.split("\n")[0],
              "data-editor": each.name,
              onclick: () => edit(each.name),
              ...(each.name === "variations" ? { "aria-keyshortcuts": "V" } : {}),
            },
            NAMES[each.name] ?? each.name,
          ),
        ),
    );
    show();
  }

  function show() {
    const state = session.state,
      erased = state ? /** @type {any} */ (Object.values(state.grids)[0]) : null;
    const drawn =
      Boolean(erased) &&
      atob(erased.known)
        .split("")
        .some((byte) => byte !== "\0");
    const empty =
      Boolean(erased) &&
      atob(erased.erased)
        .split("")
        .some((byte) => byte !== "\0");
    byId("region-name").textContent = chosen ? `${chosen} token${chosen > 1 ? "s" : ""}` : "whole picture";
    byId("deeds").classList.toggle("chosen", chosen > 0);
    byId("unchoose").hidden = !chosen;
    for (const each of buttons)
      each.disabled = Boolean(session.job) || (each.dataset.do === "fill" ? !drawn || !empty : !drawn);
    for (const each of byId("editors").children) each.disabled = Boolean(session.job) || !drawn || empty;
    byId("deeds")
      .querySelector("[data-do=fill]")
      .classList.toggle("firm", drawn && empty);
    byId("empty").hidden = !state || drawn || Boolean(session.job) || state.staged.length > 0;
  }

  byId("board").addEventListener("region", (/** @type {CustomEvent} */ event) => {
    chosen = event.detail.cells;
    show();
  });
  session.listen((name) => {
    if (name !== "step") show();
  });
  return { act, edit, offer };
}
