// @ts-check
/** All canvases that the studio keeps: a new one, a copy, one from a file, and those of before. */

import { byId, make, onClick, openDialog } from "./dom.js";
import { ask } from "./link.js";
import { notice } from "./notices.js";

const LISTED = 60;

/** @param {import("./session.js").Session} session */
export function canvases(session) {
  /** @param {() => Promise<any>} then */
  async function go(then) {
    try {
      await then();
      byId("canvases").close();
    } catch (error) {
      byId("canvases").close();
      session.failed(error);
    }
  }

  async function list() {
    openDialog("canvases");
    try {
      const found = await ask("GET", `/api/sessions?limit=${LISTED}`);
      byId("sessions").replaceChildren(
        ...found.map((/** @type {any} */ each) =>
          make(
            "li",
            {},
            make(
              "button",
              {
                type: "button",
                class: "session",
                ...(each.id === session.id ? { "aria-current": "true" } : {}),
                onclick: () => go(() => session.change(each.id)),
              },
              each.thumbnail
                ? make("img", { src: each.thumbnail, alt: "", loading: "lazy" })
                : make("span", { class: "none", "aria-hidden": "true" }),
              make(
                "span",
                { class: "what" },
                make("b", {}, each.title || "untitled"),
                make("small", {}, `${new Date(each.when * 1000).toLocaleString()}, actions: ${each.actions}`),
              ),
            ),
          ),
        ),
      );
    } catch (error) {
      byId("canvases").close();
      session.failed(error);
    }
  }

  /** A canvas file of this model. @param {Blob} file */
  async function open(file) {
    try {
      const { id, state } = await ask(
        "POST",
        "/api/sessions/file",
        new Blob([file], { type: "application/octet-stream" }),
      );
      session.take(id, state);
      notice("The canvas is open, with its whole history.");
    } catch (error) {
      session.failed(error);
    }
  }

  onClick("canvases-open", list);
  onClick("canvas-new", () => go(() => session.open({})));
  onClick("canvas-copy", () => go(() => session.open({ canvas: /** @type {string} */ (session.id) })));
  byId("canvas-file").addEventListener("change", () => {
    const [file] = byId("canvas-file").files;
    byId("canvas-file").value = "";
    if (file) go(() => open(file));
  });
  session.listen((name, data) => {
    if (name === "opened")
      Object.assign(byId("canvas-save"), { href: `/api/sessions/${data.id}/file`, download: "canvas.safetensors" });
    const state = name === "state" ? data : name === "done" ? data.state : null;
    if (state)
      Object.assign(byId("picture-save"), {
        href: `/api/sessions/${session.id}/image?n=${state.place}`,
        download: `${
          (state.prompt || "canvas")
            .slice(0, 60)
            .replace(/[^\w -]+/g, "")
            .trim() || "canvas"
        }.png`,
      });
  });
  return { open };
}
