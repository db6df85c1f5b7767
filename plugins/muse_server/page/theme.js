// @ts-check
/** Light or dark: as the system has it, until somebody chooses. */

import { onClick } from "./dom.js";
import { recall, remember } from "./memory.js";

/** @param {() => void} changed */
export function theme(changed) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  /** @param {"light" | "dark" | null} choice */
  function show(choice) {
    if (choice) document.documentElement.dataset.theme = choice;
    else delete document.documentElement.dataset.theme;
    changed();
  }
  show(recall("theme", null));
  dark.addEventListener("change", changed);
  onClick("theme", () => {
    const now = document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
    const next = now === "dark" ? "light" : "dark";
    remember("theme", next);
    show(next);
  });
}
