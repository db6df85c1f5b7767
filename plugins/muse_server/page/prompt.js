// @ts-check
/** What to draw: the words, what not, the seed, how many; and the button that draws or stops. */

import { byId, onClick } from "./dom.js";
import { recall, remember } from "./memory.js";

const SEEDS = 2 ** 31;
const FIELDS = ["prompt", "negative", "seed"];

/** @param {import("./session.js").Session} session @param {{changes: () => object}} settings */
export function promptBar(session, settings) {
  const words = recall("words", /** @type {Record<string, string>} */ ({}));
  for (const id of FIELDS) {
    byId(id).value = words[id] ?? "";
    byId(id).addEventListener("input", keep);
  }

  function keep() {
    remember("words", Object.fromEntries(FIELDS.map((id) => [id, byId(id).value])));
  }
  const count = () => Number(/** @type {HTMLInputElement} */ (document.querySelector("[name=count]:checked")).value);

  /** The words and the seed as an action has them. */
  function how() {
    const seed = byId("seed").value.trim(),
      negative = byId("negative").value.trim(),
      changes = settings.changes();
    return {
      ...(byId("prompt").value.trim() ? { prompt: byId("prompt").value.trim() } : {}),
      ...(negative ? { negative } : {}),
      ...(/^\d+$/.test(seed) ? { seed: Number(seed) } : {}),
      ...(Object.keys(changes).length ? { settings: changes } : {}),
    };
  }

  /** @param {Record<string, any>} said words that a picture gives */
  function fill(said) {
    for (const id of FIELDS) if (said[id] !== undefined && said[id] !== null) byId(id).value = String(said[id]);
    keep();
  }

  function draw() {
    if (session.job) return;
    if (!byId("prompt").value.trim()) {
      byId("prompt").focus();
      return;
    }
    const many = count();
    session.send({ do: "generate", ...how(), ...(many > 1 ? { count: many } : {}) });
  }

  byId("prompt-form").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    draw();
  });
  onClick("stop", () => session.cancel());
  onClick("die", () => {
    byId("seed").value = String(Math.floor(Math.random() * SEEDS));
    keep();
  });
  session.listen((name) => {
    const drawing = Boolean(session.job);
    if (name === "step" && !byId("stop").hidden) return;
    byId("draw").hidden = drawing;
    byId("stop").hidden = !drawing;
  });
  return { how, fill, draw, count };
}
