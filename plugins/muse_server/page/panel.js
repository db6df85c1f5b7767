// @ts-check
/** The panel of settings and history: two tabs beside the board, a sheet over it where there is little room. */

import { byId, onClick } from "./dom.js";

const TABS = ["settings", "history"];

export function panel() {
  /** @param {string} name */
  function show(name) {
    for (const each of TABS) {
      byId(`tab-${each}`).setAttribute("aria-selected", String(each === name));
      byId(`tab-${each}`).tabIndex = each === name ? 0 : -1;
      byId(each).hidden = each !== name;
    }
  }
  /** @param {string | null} name which sheet is open */
  function open(name) {
    byId("panel").classList.toggle("open", name !== null);
    for (const each of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-sheet]")))
      each.setAttribute("aria-expanded", String(each.dataset.sheet === name));
    if (name) show(name);
  }
  for (const each of TABS) {
    onClick(`tab-${each}`, () => show(each));
    byId(`tab-${each}`).addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      const other = TABS[1 - TABS.indexOf(each)];
      show(other);
      byId(`tab-${other}`).focus();
    });
  }
  for (const each of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-sheet]"))) {
    each.addEventListener("click", () =>
      open(each.getAttribute("aria-expanded") === "true" ? null : /** @type {string} */ (each.dataset.sheet)),
    );
  }
  onClick("panel-close", () => open(null));
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.key === "Escape" && byId("panel").classList.contains("open")) {
        open(null);
        event.preventDefault();
      }
    },
    true,
  );
}
