// @ts-check
/** The gallery: all that was drawn, found by its words; one can go on from any, or throw it away. */

import { byId, calmly, make, onClick, openDialog } from "./dom.js";
import { ask } from "./link.js";

const SHOWN = 40;

/**
 * The dialog that shows one picture, what is said of it and what can be done with it.
 * @param {string} title
 * @param {string} image
 * @param {(Node | string)[]} facts
 * @param {[string, () => any][]} deeds
 */
export function showPicture(title, image, facts, deeds) {
  byId("picture-name").textContent = title;
  byId("picture-image").src = image;
  byId("picture-facts").replaceChildren(...facts);
  byId("picture-deeds").replaceChildren(
    ...deeds.map(([name, then], i) =>
      make(
        "button",
        {
          type: "button",
          class: i ? "" : "firm",
          onclick: async () => {
            byId("picture").close();
            await then();
          },
        },
        name,
      ),
    ),
  );
  openDialog("picture");
}

/** A name and what there is to say. @param {string} name @param {any} value */
export const fact = (name, value) =>
  value === null || value === undefined || value === "" ? "" : make("p", {}, make("b", {}, name), ` ${value}`);

/**
 * @param {import("./session.js").Session} session
 * @param {(picture: Blob) => Promise<void>} goOn
 * @param {(said: Record<string, any>) => void} fill
 */
export function gallery(session, goOn, fill) {
  /** @type {any[]} */ let shown = [];
  let asked = 0;

  /** @param {any} each */
  function open(each) {
    showPicture(
      each.prompt || "Picture",
      each.image,
      [
        fact("seed", each.seed),
        fact("size", `${each.width} × ${each.height}`),
        fact("drawn", new Date(each.when * 1000).toLocaleString()),
      ],
      [
        ["Go on from it", async () => goOn(await (await fetch(each.image)).blob())],
        ["Take its words and seed", () => fill({ prompt: each.prompt, seed: each.seed })],
        ["Throw away", () => throwAway(each)],
      ],
    );
  }

  /** @param {any} each */
  async function throwAway(each) {
    try {
      await ask("DELETE", `/api/gallery/${each.id}`);
      shown = shown.filter((other) => other.id !== each.id);
      build(false);
    } catch (error) {
      session.failed(error);
    }
  }

  /** @param {boolean} more whether there are more */
  function build(more) {
    byId("pictures").replaceChildren(
      ...shown.map((each) =>
        make(
          "li",
          {},
          make(
            "button",
            {
              type: "button",
              class: "thumb",
              title: each.prompt,
              "aria-label": each.prompt || "a picture without words",
              onclick: () => open(each),
            },
            make("img", { src: each.thumbnail, alt: "", loading: "lazy", width: 96, height: 96 }),
          ),
        ),
      ),
    );
    byId("more").hidden = !more;
    const words = byId("words").value.trim();
    byId("gallery-empty").hidden = shown.length > 0;
    byId("gallery-empty").textContent = words
      ? `Nothing here was drawn from “${words}”.`
      : "Everything you draw is kept here, with its words.";
  }

  /** @param {boolean} [further] those after what is shown */
  async function load(further = false) {
    const number = ++asked,
      words = byId("words").value.trim(),
      before = further ? shown.at(-1)?.id : null;
    const query = new URLSearchParams({
      limit: String(SHOWN),
      ...(words ? { words } : {}),
      ...(before ? { before } : {}),
    });
    try {
      const found = await ask("GET", `/api/gallery?${query}`);
      if (number !== asked) return; // somebody typed on
      shown = further ? [...shown, ...found] : found;
      build(found.length === SHOWN);
    } catch (error) {
      session.failed(error);
    }
  }

  const soon = calmly(250, () => load());
  byId("words").addEventListener("input", soon);
  onClick("more", () => load(true));
  session.listen((name) => {
    if (name === "done") soon();
  });
  return { load };
}
