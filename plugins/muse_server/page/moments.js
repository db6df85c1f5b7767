// @ts-check
/** The history of the canvas: every action with its picture; a click goes there and back. */

import { byId, make } from "./dom.js";

const NAMES = /** @type {Record<string, string>} */ ({
  generate: "drawn",
  reroll: "drawn anew",
  fill: "filled",
  edit: "edited",
  erase: "erased",
  freeze: "frozen",
  thaw: "thawed",
  extend: "extended",
  place: "picture placed",
});

const ICONS = /** @type {Record<string, string>} */ ({
  erase: "erase",
  freeze: "freeze",
  thaw: "thaw",
  extend: "grid",
});

/** A small picture of an action that drew nothing. @param {string} what */
function sign(what) {
  const box = make("span", { class: "none", "aria-hidden": "true" });
  if (!ICONS[what]) return box;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"),
    use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${ICONS[what]}`);
  svg.append(use);
  box.append(svg);
  return box;
}

/** What an action is called, and what else there is to say of it. @param {any} did */
function named(did) {
  const name = NAMES[did.do] ?? did.do;
  if (did.prompt) return [name, did.prompt];
  if (did.do === "extend")
    return [
      name,
      ["left", "top", "right", "bottom"]
        .filter((side) => did[side])
        .map((side) => `${side} ${did[side]}`)
        .join(", "),
    ];
  return [name, ""];
}

/** @param {import("./session.js").Session} session */
export function momentList(session) {
  /** @param {any} state */
  function show(state) {
    const item = (
      /** @type {number} */ n,
      /** @type {string} */ title,
      /** @type {string} */ words,
      /** @type {number | null} */ seed,
      /** @type {string | null} */ thumbnail,
      what = "",
    ) =>
      make(
        "li",
        {},
        make(
          "button",
          {
            type: "button",
            class: "moment",
            ...(n === state.place ? { "aria-current": "step" } : {}),
            onclick: () => {
              if (n !== session.state.place) session.send({ do: "go", to: n });
            },
          },
          thumbnail ? make("img", { src: thumbnail, alt: "", loading: "lazy" }) : sign(what),
          make(
            "span",
            { class: "what" },
            make("b", {}, title),
            words ? make("span", {}, words) : "",
            seed == null ? "" : make("small", {}, `seed ${seed}`),
          ),
        ),
      );
    byId("moments").replaceChildren(
      ...[...state.history]
        .reverse()
        .map((each) =>
          item(each.n, .../** @type {[string, string]} */ (named(each.did)), each.seed, each.thumbnail, each.did.do),
        ),
      item(0, "blank", "", null, null),
    );
  }
  session.listen((name, data) => {
    if (name === "state") show(data);
    if (name === "done") show(data.state);
  });
}
