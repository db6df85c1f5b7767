// @ts-check
/** The steps of a drawing: a token of the row fills with each one, and afterwards the row is a slider through them. */

import { byId, calmly, make, onClick, seldom, still } from "./dom.js";
import { ask } from "./link.js";
import { status } from "./notices.js";
import { told } from "./token.js";

const PACE = 160; // ms a step when they are played
const SHOWN = 100; // ms between two steps that are shown as they come: the page paints on cores that draw the picture
const LINGER = 250; // ms over a token before it is told
const MARKS = ["freeze", "thaw", "erase"]; // actions that draw nothing and leave all tokens where they are

/** @param {import("./session.js").Session} session @param {import("./tools.js").Board} board */
export function stepRow(session, board) {
  /** @type {Record<string, number>} */ let counts = {};
  /** @type {import("./token.js").Step[] | null} */ let kept = null;
  let of = -1; // the moment whose steps are kept, or were asked for
  /** @type {ReturnType<typeof setInterval> | undefined} */ let playing;
  let half = false;

  const range = /** @type {HTMLInputElement} */ (byId("step"));
  const place = (/** @type {string} */ stage, /** @type {number} */ step) => {
    let before = 0;
    for (const [name, count] of Object.entries(counts)) {
      if (name === stage) return before + step;
      before += count;
    }
    return before + step;
  };
  const total = () => Object.values(counts).reduce((sum, count) => sum + count, 0);

  /** @param {number} filled */
  function paint(filled) {
    const cells = byId("step-cells"),
      wanted = Object.entries(counts).flatMap(([stage, count], i) =>
        Array.from({ length: count }, () => ({ stage, i })),
      );
    if (cells.children.length !== wanted.length || cells.dataset.counts !== JSON.stringify(counts)) {
      cells.dataset.counts = JSON.stringify(counts);
      cells.replaceChildren(
        ...wanted.map(({ i }, n) => make("i", { class: `stage-${i % 2}${n && wanted[n - 1].i !== i ? " turn" : ""}` })),
      );
    }
    [...cells.children].forEach((cell, n) => cell.classList.toggle("full", n < filled));
    range.max = String(Math.max(0, wanted.length));
    range.value = String(filled);
  }

  /** @param {boolean} on */
  function enable(on) {
    for (const id of ["step", "step-back", "play", "step-on"]) byId(id).disabled = !on;
  }
  const tell = (/** @type {string} */ text) => {
    byId("steps-told").textContent = text;
    range.setAttribute("aria-valuetext", text);
  };

  /** @param {Record<string, any>} stages of GET /api/model */
  function expect(stages) {
    counts = Object.fromEntries(Object.entries(stages).map(([name, { steps }]) => [name, steps ?? 1]));
    paint(0);
  }

  const live = seldom(SHOWN, (/** @type {any} */ data) => {
    if (data.job !== session.job) return; // it has ended meanwhile
    counts[data.stage] = data.steps;
    const done = place(data.stage, data.step);
    paint(done);
    tell(`${data.stage} ${data.step}/${data.steps}${data.index ? `, picture ${data.index + 1}` : ""}`);
    if (!half && done >= total() / 2) {
      half = true;
      status("Half done.");
    }
  });

  /** @param {any} state the slider is for the last drawing, until something else is put in its place */
  function settle(state) {
    stop();
    const done = state.history.slice(0, state.place),
      now = done.findLast((/** @type {any} */ each) => !MARKS.includes(each.did.do)),
      drew = Boolean(now && "prompt" in now.did);
    kept = null;
    of = drew ? now.n : -1;
    enable(drew);
    paint(drew ? total() : 0);
    tell(drew ? "all steps" : "no steps yet");
    board.show(null);
  }

  /** @returns {Promise<import("./token.js").Step[]>} */
  async function fetched() {
    if (kept || of < 0 || session.job) return kept ?? [];
    const [asked, id] = [of, session.id];
    const { steps } = await ask("GET", `/api/sessions/${id}/steps?n=${asked}`);
    if (asked !== of || id !== session.id) return [];
    kept = steps;
    if (!steps.length) {
      enable(false);
      tell("its steps are gone"); // the server keeps those of the last drawings only
    }
    counts = {};
    for (const each of steps) counts[each.stage] = Math.max(counts[each.stage] ?? 0, each.step);
    return steps;
  }

  /** @param {number} number how many steps are done, one at least; all is the canvas itself */
  async function go(number) {
    const steps = await fetched().catch((error) => {
      session.failed(error);
      return [];
    });
    if (!steps.length) return;
    const at = Math.min(steps.length, Math.max(1, number)),
      shown = steps[at - 1];
    paint(at);
    tell(`${shown.stage} ${shown.step}/${shown.steps}`);
    await board.show(
      at === steps.length
        ? null
        : { ...shown, under: steps.findLast((each, i) => i < at && each.stage !== shown.stage)?.image },
    );
  }

  function stop() {
    clearInterval(playing);
    playing = undefined;
    byId("play").setAttribute("aria-pressed", "false");
    byId("play-icon").setAttribute("href", "#i-play");
  }
  async function play() {
    if (playing) {
      stop();
      return;
    }
    const steps = await fetched().catch((error) => {
      session.failed(error);
      return [];
    });
    if (!steps.length) return;
    if (still.matches) {
      await go(Number(range.value) < steps.length ? steps.length : 1);
      return;
    } // the first and the last alone
    if (Number(range.value) >= steps.length) await go(1);
    byId("play").setAttribute("aria-pressed", "true");
    byId("play-icon").setAttribute("href", "#i-pause");
    playing = setInterval(() => {
      if (Number(range.value) >= steps.length) stop();
      else go(Number(range.value) + 1);
    }, PACE);
  }
  /** @param {number} by */
  function turn(by) {
    if (!range.disabled) {
      stop();
      go(Number(range.value) + by);
    }
  }

  const hovered = calmly(LINGER, async (/** @type {{stage: string, row: number, column: number} | null} */ cell) => {
    byId("hover").textContent = cell ? told(cell, await fetched().catch(() => [])) : "";
  });
  byId("board").addEventListener("hover", (/** @type {CustomEvent} */ event) => {
    byId("hover").textContent = "";
    hovered(event.detail);
  });
  range.addEventListener("input", () => {
    stop();
    go(Number(range.value));
  });
  onClick("play", play);
  onClick("step-back", () => turn(-1));
  onClick("step-on", () => turn(1));
  session.listen((name, data) => {
    if (name === "started") {
      half = false;
      stop();
      enable(false);
      paint(0);
      tell("waiting");
      board.show(null);
      status("Drawing.");
    }
    if (name === "step") live(data);
    if (name === "state" && !data.job) settle(data);
    if (name === "done") {
      settle(data.state);
      status("Done.");
    }
    if (name === "failed" || name === "cancelled") settle(session.state);
  });
  return { expect, play, turn };
}
