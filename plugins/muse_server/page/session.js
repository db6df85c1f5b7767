// @ts-check
/** The canvas that this tab works on: its state as the server tells it, what it hears, and what it is asked to do. */

import { ask, Problem, Stream } from "./link.js";
import { recall, recallHere, remember, rememberHere } from "./memory.js";

/** @typedef {(name: string, data: any) => void} Hear */

export class Session {
  /** @param {(problem: unknown) => void} failed told of whatever could not be done */
  constructor(failed) {
    this.failed = failed;
    /** @type {Set<Hear>} */ this.heard = new Set();
    /** @type {any} */ this.state = null;
    /** @type {string | null} */ this.id = null;
    /** @type {string | null} */ this.job = null;
    /** @type {Set<string>} */ this.ended = new Set(); // a job's end may be heard before the answer that names it
    /** @type {Stream | null} */ this.stream = null;
    this.text = "";
  }

  /**
   * Hear all events of the canvas, `opened` when another one is opened, and `link` as the stream comes and goes.
   * @param {Hear} hear
   */
  listen(hear) {
    this.heard.add(hear);
    return () => this.heard.delete(hear);
  }

  /** @param {string} name @param {any} data */
  tell(name, data) {
    for (const hear of [...this.heard]) hear(name, data);
  }

  /** Go on where this tab was, or another was last; else with a new canvas. */
  async resume() {
    const id = recallHere("session", null) ?? recall("session", null);
    if (id) {
      try {
        return this.take(id, await ask("GET", `/api/sessions/${id}`));
      } catch (error) {
        if (!(error instanceof Problem) || error.status !== 404) throw error;
      }
    }
    return this.open({});
  }

  /** A new canvas. @param {{seed?: number, picture?: string, canvas?: string}} how */
  async open(how) {
    const { id, state } = await ask("POST", "/api/sessions", how);
    return this.take(id, state);
  }

  /** Open one that is there. @param {string} id */
  async change(id) {
    return this.take(id, await ask("GET", `/api/sessions/${id}`));
  }

  /** @param {string} id @param {any} state */
  take(id, state) {
    this.stream?.end();
    this.id = id;
    this.text = "";
    rememberHere("session", id);
    remember("session", id);
    this.job = state.job?.id ?? null;
    this.tell("opened", { id });
    this.adopt(state);
    this.stream = new Stream(
      `/api/sessions/${id}/events`,
      (name, data) => this.hear(name, data),
      (up) => this.tell("link", { up }),
      (problem) => this.refused(problem),
    );
  }

  /**
   * The canvas is not there any more, as a blank one after the server was started anew; or it is not for us.
   * @param {Problem} problem
   */
  refused(problem) {
    if (problem.status === 404) this.open({}).catch(this.failed);
    else this.failed(problem);
  }

  /** @param {string} name @param {any} data */
  hear(name, data) {
    if (name === "state") {
      this.adopt(data);
      return;
    }
    if (name === "step") {
      performance.mark("muse-step", {
        detail: {
          stage: data.stage,
          step: data.step,
          late: data.sent ? performance.timeOrigin + performance.now() - data.sent : null,
        },
      });
    }
    if (["waiting", "step", "staged"].includes(name) && this.job !== data.job) this.started(data.job);
    if (["done", "failed", "cancelled"].includes(name)) {
      this.ended.add(data.job);
      this.job = null;
    }
    if (name === "done") {
      this.state = data.state;
      this.text = JSON.stringify(data.state);
    }
    this.tell(name, data);
  }

  /** @param {string} job */
  started(job) {
    if (this.ended.has(job)) return;
    performance.clearMarks("muse-step");
    this.job = job;
    this.tell("started", { job });
  }

  /** Take the server's state for the truth; the same one is not told twice. @param {any} state */
  adopt(state) {
    const text = JSON.stringify(state);
    if (text === this.text) return;
    this.text = text;
    this.state = state;
    this.job = state.job?.id ?? null;
    this.tell("state", state);
  }

  /** Do an action; false where it was refused, and told so. @param {any} action @returns {Promise<boolean>} */
  async send(action) {
    this.tell("sent", action);
    try {
      const answer = await ask("POST", `/api/sessions/${this.id}/actions`, action);
      if (answer?.job && !answer.grids) {
        if (this.job !== answer.job) this.started(answer.job);
      } else if (answer) this.adopt(answer);
      return true;
    } catch (error) {
      this.failed(error);
      return false;
    }
  }

  /** Stop what is drawn or waits. */
  async cancel() {
    if (!this.job) return;
    performance.mark("muse-cancel");
    await ask("DELETE", `/api/jobs/${this.job}`).catch(this.failed);
  }

  /** Take one of the staged pictures. @param {string} job @param {number} index */
  async accept(job, index) {
    try {
      const state = await ask("POST", `/api/sessions/${this.id}/accept`, { job, index });
      if (state?.grids) this.adopt(state);
    } catch (error) {
      this.failed(error);
    }
  }
}
