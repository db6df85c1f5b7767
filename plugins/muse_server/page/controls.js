// @ts-check
/** What one sets a value with: a number and a slider, a choice, a box, a line of text; made of a setting's type. */

import { make } from "./dom.js";

/**
 * @typedef {{name: string, type: string, nullable: boolean, written: string, default: any, required: boolean,
 *   choices: any[] | null, kind: string | null, about: string}} Setting
 * @typedef {{name: string, plugin: string, about: string, settings: Setting[]}} Part
 * @typedef {Record<string, Part[]>} Parts   by kind
 * @typedef {{parts: Parts, own: any, value: any, path: string, set: (value: any) => void}} Bound
 *   own: what the recipe has; value: what it was changed to, undefined where it was not
 */

export const OWN = "as the recipe has it";

/** A value as the recipe would write it. @param {any} value */
const written = (value) =>
  value === null || value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value);

/**
 * Text as a value: a number, a list of numbers, or what JSON reads; undefined where it is empty.
 * @param {string} text
 * @param {string} type
 */
export function read(text, type) {
  const bare = text.trim();
  if (!bare) return undefined;
  if (bare === "null") return null;
  const list = type === "list" || (/[,[]/.test(bare) && type !== "str");
  try {
    return type === "str" ? bare : JSON.parse(list && !bare.startsWith("[") ? `[${bare}]` : bare);
  } catch {
    return bare;
  } // the server says what is wrong with it
}

/** Where a slider ends: what is usual, as a signature knows no bounds. @param {Setting} setting @param {number} now */
function bounds(setting, now) {
  const usual = Number(setting.default ?? now) || 0,
    low = Math.min(0, 4 * Math.min(usual, now));
  const most = setting.type === "int" ? Math.max(16, 4 * usual) : usual <= 1 ? 1 : 4 * usual;
  return { min: low, max: Math.max(most, now), step: setting.type === "int" ? 1 : most <= 1 ? 0.01 : 0.1 };
}

/** A number and a slider, which say the same. @param {Setting} setting @param {Bound} bound */
function numeric(setting, { own, value, set, path }) {
  const now = value === undefined ? own : value,
    label = path.replaceAll(".", " ");
  const text = make("input", {
    type: "text",
    inputMode: "decimal",
    value: written(now),
    placeholder: OWN,
    id: path,
    class: "number",
  });
  const parts = [text];
  if (typeof now === "number" || (now === null && typeof setting.default === "number")) {
    const range = make("input", {
      type: "range",
      ...bounds(setting, Number(now ?? setting.default)),
      "aria-label": label,
    });
    range.value = String(now ?? setting.default);
    range.addEventListener("input", () => {
      text.value = range.value;
    });
    range.addEventListener("change", () => set(Number(range.value)));
    parts.unshift(range);
  }
  text.addEventListener("change", () => set(read(text.value, setting.type)));
  return parts;
}

/**
 * @param {[string, string][]} options value as JSON, and what is shown
 * @param {any} now
 * @param {string} id
 * @param {(value: any) => void} set
 */
function choice(options, now, id, set) {
  const select = make("select", { id }, ...options.map(([value, shown]) => make("option", { value }, shown)));
  select.value = now === undefined ? "" : JSON.stringify(now);
  select.addEventListener("change", () => set(select.value === "" ? undefined : JSON.parse(select.value)));
  return [select];
}

/** @param {Setting} setting @param {Bound} bound @returns {HTMLElement[]} */
export function control(setting, bound) {
  const { own, value, set, path } = bound,
    now = value === undefined ? own : value;
  if (setting.choices) {
    const none = /** @type {[string, string][]} */ (setting.nullable ? [["null", "none"]] : []);
    return choice(
      [
        ...none,
        ...setting.choices.map((each) => /** @type {[string, string]} */ ([JSON.stringify(each), String(each)])),
      ],
      now,
      path,
      set,
    );
  }
  if (setting.type === "bool" && setting.nullable)
    return choice(
      [
        ["null", OWN],
        ["true", "yes"],
        ["false", "no"],
      ],
      now ?? null,
      path,
      set,
    );
  if (setting.type === "bool") {
    const box = make("input", { type: "checkbox", id: path, checked: Boolean(now) });
    box.addEventListener("change", () => set(box.checked));
    return [box];
  }
  if ((setting.type === "int" || setting.type === "float") && !Array.isArray(now)) return numeric(setting, bound);
  const text = make("input", {
    type: "text",
    id: path,
    value: written(now),
    placeholder: setting.nullable ? OWN : setting.written,
  });
  text.addEventListener("change", () => set(read(text.value, setting.type)));
  return [text];
}
