// @ts-check
/**
 * The settings of all stages as a form: made of the parts' signatures, so that a third party's part shows up by itself.
 */

import { curve } from "./curve.js";
import { byId, calmly, make, onClick, openDialog } from "./dom.js";
import { explain, part } from "./fields.js";
import { ask } from "./link.js";
import { recall, remember } from "./memory.js";

const KINDS = ["sampler", "schedule", "guidance"];
const SOON = 350; // ms until what was changed is checked

/**
 * @param {import("./session.js").Session} session
 * @param {(editors: any[]) => void} offer what to do with the editors there are
 */
export function settingsForm(session, offer) {
  // stage or "editors" -> kind or name -> what was changed
  /** @type {Record<string, any>} */ let values = recall("settings", {});
  /** @type {Record<string, any>} */ let stages = {};
  /** @type {import("./fields.js").Parts} */ let parts = {};

  /** @param {string} group @param {string} kind @param {any} value */
  function set(group, kind, value) {
    const table = { ...values[group] };
    if (value === undefined) delete table[kind];
    else table[kind] = value;
    values = { ...values, [group]: table };
    if (!Object.keys(table).length) delete values[group];
    remember("settings", values);
    build();
    check();
  }

  /** What the actions send: the stages' tables of what was changed. @returns {Record<string, any>} */
  const changes = () => Object.fromEntries(Object.entries(values).filter(([stage]) => stage in stages));
  /** An editor with its settings. @param {string} name */
  const editor = (name) => ({ use: name, ...values.editors?.[name] });

  function build() {
    const focus = document.activeElement?.id,
      open = new Set([...document.querySelectorAll("#stages details[open]")].map((each) => each.id));
    const first = !document.querySelector("#stages details");
    const fold = (
      /** @type {string} */ id,
      /** @type {string} */ name,
      /** @type {string} */ more,
      /** @type {(Node | string)[]} */ rows,
      /** @type {boolean} */ unfolded,
    ) =>
      make(
        "details",
        { id, open: first ? unfolded : open.has(id), class: "stage" },
        make("summary", {}, make("b", {}, name), make("small", {}, more)),
        ...rows,
      );
    const groups = Object.entries(stages).map(([stage, known], i) =>
      fold(
        `stage-${stage}`,
        stage,
        `${known.grid[1]}×${known.grid[0]} tokens, ${known.size[0]}×${known.size[1]} px`,
        KINDS.map((kind) => kindGroup(stage, kind)),
        i === 0,
      ),
    );
    byId("stages").replaceChildren(
      ...groups,
      fold("stage-editors", "editors", "change a whole picture", (parts.editor ?? []).map(editorGroup), false),
    );
    byId("reset-all").disabled = !Object.keys(values).length;
    byId("tab-settings").classList.toggle("changed", Object.keys(values).length > 0);
    if (focus) document.getElementById(focus)?.focus();
  }

  /** @param {string} stage @param {string} kind */
  function kindGroup(stage, kind) {
    const own = stages[stage][kind] ?? null,
      value = values[stage]?.[kind],
      path = `${stage}.${kind}`;
    const table = value?.use ? value : { ...own, ...value };
    return make(
      "div",
      { class: "kind", "data-path": path },
      make("label", { for: path, class: "kind-name" }, kind),
      ...part(kind, { parts, own, value, path, set: (given) => set(stage, kind, given) }),
      ...(kind === "schedule" && table.use ? [curve(table)] : []),
    );
  }

  /** @param {import("./fields.js").Part} each */
  function editorGroup(each) {
    const path = `editor.${each.name}`,
      value = values.editors?.[each.name];
    const [, inner] = part("editor", {
      parts,
      own: { use: each.name },
      value,
      path,
      set: (given) => set("editors", each.name, given),
    });
    return make(
      "div",
      { class: "kind", "data-path": path },
      make(
        "div",
        { class: "control chosen" },
        make("span", { class: "kind-name" }, each.name),
        make(
          "span",
          { class: "end" },
          make(
            "button",
            {
              type: "button",
              class: "quiet info",
              "aria-label": `What ${each.name} is`,
              onclick: () => explain(each.name, each.about),
            },
            "i",
          ),
        ),
      ),
      inner,
    );
  }

  /** Say what is wrong beside each field, in the words of `muse check`. */
  const check = calmly(SOON, async () => {
    const { problems } = await ask("POST", "/api/check", { settings: changes() }).catch((error) => {
      session.failed(error);
      return { problems: [] };
    });
    for (const old of document.querySelectorAll("#stages .problem")) old.remove();
    for (const { path, message } of problems) {
      const name = path.replace(/^settings\./, ""),
        row = document.querySelector(`#stages [data-path="${CSS.escape(name)}"]`) ?? byId("stages");
      row.append(make("p", { class: "problem", role: "alert" }, message));
    }
  });

  /** @param {"yaml" | "code"} what @param {string} title */
  async function written(what, title) {
    try {
      const found = await ask("POST", "/api/written", { session: session.id, settings: changes() });
      byId("text-name").textContent = title;
      byId("text-body").textContent = found[what];
      openDialog("text");
    } catch (error) {
      session.failed(error);
    }
  }

  onClick("as-yaml", () => written("yaml", "As a recipe"));
  onClick("as-code", () => written("code", "As Python"));
  onClick("reset-all", () => {
    values = {};
    remember("settings", values);
    build();
    check();
  });
  onClick("text-copy", async () => {
    await navigator.clipboard.writeText(byId("text-body").textContent);
    byId("text-copy").textContent = "Copied";
    setTimeout(() => {
      byId("text-copy").textContent = "Copy";
    }, 1500);
  });

  /** Take the settings that a picture was drawn with. @param {Record<string, any>} said */
  function fill(said) {
    values = {
      ...(values.editors ? { editors: values.editors } : {}),
      ...Object.fromEntries(Object.entries(said).filter(([stage]) => stage in stages)),
    };
    remember("settings", values);
    build();
    check();
  }

  /** @param {any} model as GET /api/model tells it */
  async function start(model) {
    stages = model.stages;
    parts = await ask("GET", "/api/parts");
    build();
    offer(parts.editor ?? []);
    if (Object.keys(changes()).length) check();
  }
  return { start, changes, editor, fill };
}
