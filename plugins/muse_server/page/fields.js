// @ts-check
/** One setting of a part as a field of a form, and a part as a choice that unfolds into its settings. */

import { control, OWN } from "./controls.js";
import { byId, make, openDialog } from "./dom.js";

/**
 * @typedef {import("./controls.js").Setting} Setting
 * @typedef {import("./controls.js").Part} Part
 * @typedef {import("./controls.js").Parts} Parts
 * @typedef {import("./controls.js").Bound} Bound
 */

/** Show a docstring. @param {string} title @param {string} text */
export function explain(title, text) {
  byId("about-name").textContent = title;
  byId("about-body").textContent = text || "Its author says nothing of it.";
  openDialog("about");
}

/** @param {string} title @param {string} text */
export const info = (title, text) =>
  make(
    "button",
    {
      type: "button",
      class: "quiet info",
      "aria-label": `What ${title} is`,
      title: "What it is",
      onclick: () => explain(title, text),
    },
    "i",
  );

/**
 * A row of the form: name, control, what it is, and back to the recipe's where it was changed.
 * @param {Setting} setting
 * @param {Bound} bound
 */
export function field(setting, bound) {
  const changed = bound.value !== undefined;
  const row = make("div", { class: `field type-${setting.type}${changed ? " changed" : ""}`, "data-path": bound.path });
  row.append(make("label", { for: bound.path, title: setting.written }, setting.name.replaceAll("_", " ")));
  if (setting.type === "part" && setting.kind) row.append(...part(setting.kind, bound));
  else row.append(make("div", { class: "control" }, ...control(setting, bound)));
  row.append(
    make(
      "span",
      { class: "end" },
      info(setting.name, setting.about ? `${setting.name}: ${setting.written}\n\n${setting.about}` : setting.written),
      reset(setting.name, changed, bound.set),
    ),
  );
  return row;
}

/** @param {string} name @param {boolean} changed @param {(value: any) => void} set */
function reset(name, changed, set) {
  return make(
    "button",
    {
      type: "button",
      class: "quiet reset",
      "aria-label": `Reset ${name}`,
      title: OWN,
      hidden: !changed,
      onclick: () => set(undefined),
    },
    "↺",
  );
}

/**
 * Where a part is chosen, and unfolds into its own settings.
 * @param {string} kind
 * @param {Bound} bound
 * @returns {HTMLElement[]}
 */
export function part(kind, { parts, own, value, path, set }) {
  const known = parts[kind] ?? [],
    use = value?.use ?? own?.use ?? "",
    chosen = known.find((each) => each.name === use);
  const select = make(
    "select",
    { id: path },
    ...(chosen ? [] : [make("option", { value: use }, use || "none")]),
    ...known.map((each) => make("option", { value: each.name }, each.name)),
  );
  select.value = use;
  select.addEventListener("change", () => set(select.value === own?.use ? undefined : { use: select.value }));
  const rows = (chosen?.settings ?? []).map((each) =>
    field(each, {
      parts,
      path: `${path}.${each.name}`,
      value: value?.[each.name],
      own: use === own?.use && own[each.name] !== undefined ? own[each.name] : each.default,
      set: (given) => set(changedTable(value, each.name, given)),
    }),
  );
  const changed = value?.use !== undefined;
  const head = make(
    "div",
    { class: `control chosen${changed ? " changed" : ""}` },
    select,
    make(
      "span",
      { class: "end" },
      info(use, chosen ? `${use}, from plugin ${chosen.plugin}\n\n${chosen.about}` : ""),
      reset(kind, changed, () => set(undefined)),
    ),
  );
  return [head, make("div", { class: "inner" }, ...rows)];
}

/**
 * A table with one value more or less; undefined where nothing is left of it.
 * @param {any} table
 * @param {string} key
 * @param {any} value
 */
function changedTable(table, key, value) {
  const next = { ...table };
  if (value === undefined) delete next[key];
  else next[key] = value;
  return Object.keys(next).length ? next : undefined;
}
