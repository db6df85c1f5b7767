// @ts-check
/** Elements, made and found; text is only ever set as text. */

/**
 * An element with properties, attributes (those with a dash, `role` and `for`), listeners (`onclick`) and children.
 * @param {string} tag @param {Record<string, any>} [given] @param {(Node | string)[]} children @returns {any}
 */
export function make(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(given)) {
    if (key.includes("-") || key === "role" || key === "for") element.setAttribute(key, value);
    else if (key === "class") element.className = value;
    else /** @type {any} */ (element)[key] = value;
  }
  element.append(...children);
  return element;
}

/** The element of an id, which the page has. @param {string} id @returns {any} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** Call when a control is clicked. @param {string} id @param {(event: any) => void} then */
export function onClick(id, then) {
  byId(id).addEventListener("click", then);
}

/** Open a dialog over the page. @param {string} id */
export function openDialog(id) {
  const dialog = byId(id);
  if (!dialog.open) dialog.showModal();
}

/** All dialogs close by their cross, and by a click beside them. */
export function letDialogsClose() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector("[data-close]")?.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog && dialog.querySelector("[data-close]")) dialog.close();
    });
  }
}

/**
 * Call a function once nothing came for a while.
 * @template {any[]} T
 * @param {number} ms
 * @param {(...given: T) => void} then
 * @returns {(...given: T) => void}
 */
export function calmly(ms, then) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */ let waiting;
  return (...given) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => then(...given), ms);
  };
}

/**
 * Call a function at once, and then with the latest of what comes, at most once in a while.
 * @template {any[]} T
 * @param {number} ms
 * @param {(...given: T) => void} then
 * @returns {(...given: T) => void}
 */
export function seldom(ms, then) {
  let resting = false;
  /** @type {T | null} */ let latest = null;
  const call = (/** @type {T} */ given) => {
    latest = null;
    resting = true;
    setTimeout(() => {
      resting = false;
      if (latest) call(latest);
    }, ms);
    then(...given);
  };
  return (...given) => {
    if (resting) latest = given;
    else call(given);
  };
}

/** Whether somebody asked for no movement. */
export const still = matchMedia("(prefers-reduced-motion: reduce)");
