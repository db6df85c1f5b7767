// @ts-check
/**
 * What is told in words: errors and notices, the place in the queue, and, to those who listen, how far a drawing is.
 */

import { ask, Problem } from "./link.js";
import { byId, make, openDialog } from "./dom.js";

const READ = 9000; // ms that a notice stays

/** Say something to a screen reader. @param {string} text */
export function status(text) {
  byId("status").textContent = text;
}

/** Show a notice for a while. @param {string} text @param {"told" | "wrong"} kind */
export function notice(text, kind = "told") {
  const box = byId("notices");
  const same = [...box.children].find((each) => each.firstChild?.textContent === text);
  same?.remove();
  const gone = () => item.remove();
  const item = make("div", { class: `notice ${kind}` }, make("p", {}, text));
  if (kind === "wrong") item.setAttribute("role", "alert");
  item.append(make("button", { type: "button", class: "quiet square", "aria-label": "Close", onclick: gone }, "×"));
  box.append(item);
  setTimeout(gone, READ);
}

/** Tell what could not be done; ask for the token where that is what is missing. @param {any} problem */
export function failed(problem) {
  if (problem instanceof Problem && problem.status === 401) {
    openDialog("token");
    return;
  }
  notice(problem?.message ?? String(problem), "wrong");
  if (!(problem instanceof Problem)) console.info(problem);
}

/** Give the server its token for a cookie; the address bar forgets it first. @returns {Promise<void>} */
export async function comeIn() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(null, "", location.pathname);
  await ask("POST", "/api/token", { token });
}

/** The dialog that asks for a token. @param {() => void} then */
export function askForToken(then) {
  byId("token").addEventListener("cancel", (/** @type {Event} */ event) => event.preventDefault());
  byId("token-form").addEventListener("submit", async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      await ask("POST", "/api/token", { token: byId("token-text").value.trim() });
      byId("token").close();
      then();
    } catch (problem) {
      byId("token-problem").textContent = /** @type {Error} */ (problem).message;
    }
  });
}

/** A time in words. @param {number | null | undefined} seconds */
const about = (seconds) =>
  seconds == null
    ? ""
    : seconds < 1
      ? " (a moment)"
      : seconds < 90
        ? ` (${Math.round(seconds)} s)`
        : ` (${Math.round(seconds / 60)} min)`;

/** Tell the queue, notices and ends of jobs. @param {import("./session.js").Session} session */
export function tellAll(session) {
  const queue = byId("queue");
  const say = (/** @type {string} */ text, mood = "") => {
    if (queue.textContent === text) return; // as each step says it, and the page would be laid out anew
    queue.textContent = text;
    queue.dataset.mood = mood;
  };
  say("");
  session.listen((name, data) => {
    if (name === "waiting")
      say((data.place <= 1 ? "you are next" : `${data.place - 1} before you`) + about(data.seconds), "waiting");
    if (name === "step") say("drawing", "drawing");
    if (name === "done" || name === "state" || name === "opened") say("");
    if (name === "cancelled") {
      say("stopped");
      status("Stopped. The canvas is as it was.");
      performance.mark("muse-cancelled");
    }
    if (name === "failed") {
      say("");
      notice(data.refused ? `Refused: ${data.message}` : data.message, "wrong");
    }
    if (name === "notice") notice(data.text);
    if (name === "link") {
      document.documentElement.toggleAttribute("data-away", !data.up);
      if (data.up) {
        if (queue.dataset.mood === "away") say("");
      } else say("not connected, trying again", "away");
    }
  });
}
