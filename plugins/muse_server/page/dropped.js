// @ts-check
/** A picture or a canvas file that is dropped, pasted or opened: what it says, and how to go on from it. */

import { byId, make } from "./dom.js";
import { fact, showPicture } from "./gallery.js";
import { ask } from "./link.js";
import { notice } from "./notices.js";

const PICTURES = ["image/png", "image/jpeg", "image/webp"];

/**
 * @param {import("./session.js").Session} session @param {(said: Record<string, any>) => void} fill words and seed
 * @param {(settings: Record<string, any>) => void} set settings @param {(file: Blob) => Promise<void>} openCanvas
 */
export function dropping(session, fill, set, openCanvas) {
  /** @type {string | null} */ let address = null;

  /** @param {string} picture its id */
  const newFrom = async (picture) => {
    try {
      await session.open({ picture });
    } catch (error) {
      session.failed(error);
    }
  };

  /** @param {Blob} file @returns {Promise<any>} */
  async function sent(file) {
    try {
      return await ask("POST", "/api/pictures", file);
    } catch (error) {
      session.failed(error);
      return null;
    }
  }

  /** Go on from a picture on a new canvas. @param {Blob} file */
  async function goOn(file) {
    const found = await sent(file);
    if (found) await newFrom(found.picture);
  }

  /** @param {Blob} file */
  async function open(file) {
    if (!PICTURES.includes(file.type)) {
      await openCanvas(file);
      return;
    }
    const found = await sent(file);
    if (!found) return;
    if (address) URL.revokeObjectURL(address);
    address = URL.createObjectURL(file);
    const said = found.said ?? {},
      set_ = said.settings && Object.keys(said.settings).length > 0;
    const facts = [
      fact("says", said.prompt),
      fact("not", said.negative),
      fact("seed", said.seed),
      fact("size", `${found.width} × ${found.height}`),
      ...(said.notices ?? []).map((/** @type {string} */ text) => make("p", { class: "remark" }, text)),
      ...(found.said ? [] : [make("p", { class: "remark" }, "It does not say how it was drawn.")]),
    ];
    showPicture(said.prompt || "A picture of yours", address, facts, [
      ["Go on from it", () => newFrom(found.picture)],
      ["Place it on this canvas", () => session.send({ do: "place", picture: found.picture })],
      .../** @type {[string, () => any][]} */ (
        found.said
          ? [
              [
                set_ ? "Take its words, seed and settings" : "Take its words and seed",
                () => {
                  fill(said);
                  if (set_) set(said.settings);
                },
              ],
            ]
          : []
      ),
      ["Draw anew where it is white", () => session.send({ do: "reroll", region: { picture: found.picture } })],
    ]);
  }

  let inside = 0;
  const show = () => {
    byId("dropping").hidden = inside === 0;
  };
  const files = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => {
    if (files(event)) {
      inside += 1;
      show();
    }
  });
  document.addEventListener("dragleave", (event) => {
    if (files(event)) {
      inside = Math.max(0, inside - 1);
      show();
    }
  });
  document.addEventListener("dragover", (event) => {
    if (files(event)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    inside = 0;
    show();
    const file = event.dataTransfer?.files[0];
    if (!file) return;
    event.preventDefault();
    open(file);
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((each) => PICTURES.includes(each.type));
    if (!file) return; // text goes where it was pasted
    event.preventDefault();
    open(file);
  });
  byId("picture-file").addEventListener("change", () => {
    const [file] = byId("picture-file").files;
    byId("picture-file").value = "";
    if (file) open(file);
    else notice("No picture was chosen.");
  });
  return { open, goOn };
}
