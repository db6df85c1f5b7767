// @ts-check
/** What the browser remembers for this page: words, settings, the canvas that was open. */

const PREFIX = "muse-studio.";

/** A browser may refuse to store, as in a private window; the page then forgets at its end. */
/** @type {Map<string, string>} */ const meanwhile = new Map();

/** @param {Storage} storage @param {string} key @param {any} value */
function keep(storage, key, value) {
  const text = JSON.stringify(value);
  meanwhile.set(key, text);
  try {
    storage.setItem(PREFIX + key, text);
  } catch (error) {
    console.info("nothing is remembered:", error);
  }
}

/** @param {Storage} storage @param {string} key @param {any} otherwise */
function kept(storage, key, otherwise) {
  try {
    return JSON.parse(storage.getItem(PREFIX + key) ?? meanwhile.get(key) ?? "null") ?? otherwise;
  } catch (error) {
    console.info("what was remembered can't be read:", error);
    return otherwise;
  }
}

/** Remember for all tabs. @param {string} key @param {any} value */
export const remember = (key, value) => keep(localStorage, key, value);
/** @template T @param {string} key @param {T} otherwise @returns {T} */
export const recall = (key, otherwise) => kept(localStorage, key, otherwise);
/** Remember for this tab, over a reload. @param {string} key @param {any} value */
export const rememberHere = (key, value) => keep(sessionStorage, key, value);
/** @template T @param {string} key @param {T} otherwise @returns {T} */
export const recallHere = (key, otherwise) => kept(sessionStorage, key, otherwise);
