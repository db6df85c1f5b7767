// @ts-check
/** What goes between the page and its server: questions and answers, and a stream of events. */

/** An answer that is no success, with the server's words. */
export class Problem extends Error {
  /** @param {number} status @param {{message?: string, param?: string | null, code?: string | null}} said */
  constructor(status, said) {
    super(said.message ?? `the server answered ${status}`);
    this.status = status;
    this.param = said.param ?? null;
    this.code = said.code ?? null;
  }
}

const FINAL = [401, 403, 404]; // to ask again would not help

/** The server is not there. */
export class Unreachable extends Error {
  constructor() {
    super("The studio does not answer. Is it still running?");
  }
}

/**
 * Ask, and give what is answered: JSON, or null where nothing is. Problem where the server refuses, Unreachable where
 * there is none. A Blob is sent as what it is, anything else as JSON.
 * @param {string} method @param {string} path @param {any} [body] @returns {Promise<any>}
 */
export async function ask(method, path, body) {
  /** @type {RequestInit} */ const how = { method, credentials: "same-origin" };
  if (body instanceof Blob)
    Object.assign(how, { body, headers: { "Content-Type": body.type || "application/octet-stream" } });
  else if (body !== undefined)
    Object.assign(how, { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  const answer = await fetch(path, how).catch(() => {
    throw new Unreachable();
  });
  if (!answer.ok) throw new Problem(answer.status, await said(answer));
  return answer.status === 204 ? null : answer.json();
}

/** @param {Response} answer */
async function said(answer) {
  const body = await answer.json().catch(() => null); // a proxy's error is a page
  return body?.error ?? {};
}

/**
 * A session's events, by number. It reconnects by itself and goes on after the last number that it heard; while the
 * page is hidden it is closed, as a browser holds only six connections open to one server.
 */
export class Stream {
  /**
   * @param {string} path @param {(name: string, data: any) => void} hear
   * @param {(up: boolean) => void} moved @param {(problem: Problem) => void} refused it has then ended
   */
  constructor(path, hear, moved, refused) {
    this.path = path;
    this.hear = hear;
    this.moved = moved;
    this.refused = refused;
    /** @type {string | null} */ this.last = null;
    this.ended = false;
    this.pause = 0;
    /** @type {AbortController | null} */ this.reading = null;
    this.visible = () => (document.hidden ? this.reading?.abort() : this.open());
    document.addEventListener("visibilitychange", this.visible);
    this.open();
  }

  async open() {
    if (this.reading || this.ended || document.hidden) return;
    this.reading = new AbortController();
    try {
      /** @type {Record<string, string>} */ const headers = { Accept: "text/event-stream" };
      if (this.last !== null) headers["Last-Event-ID"] = this.last;
      const answer = await fetch(this.path, { headers, signal: this.reading.signal, cache: "no-store" });
      if (!answer.ok || !answer.body) throw new Problem(answer.status, {});
      this.moved(true);
      await this.read(answer.body);
    } catch (error) {
      if (error instanceof Problem && FINAL.includes(error.status)) {
        this.end();
        this.refused(error);
      }
    }
    this.reading = null;
    if (this.ended || document.hidden) return;
    this.moved(false);
    this.pause = Math.min(5000, this.pause * 2 || 250);
    setTimeout(() => this.open(), this.pause);
  }

  /** @param {ReadableStream<any>} body */
  async read(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split(/\r?\n\r?\n/);
      rest = parts.pop() ?? "";
      parts.forEach((part) => this.event(part));
    }
  }

  /** @param {string} text the lines of one event */
  event(text) {
    /** @type {Record<string, string>} */ const fields = {};
    for (const line of text.split(/\r?\n/)) {
      const [, name, value] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
      if (name) fields[name] = name === "data" && fields.data !== undefined ? `${fields.data}\n${value}` : value;
    }
    if (fields.data === undefined) return; // a comment, which keeps proxies from closing
    this.pause = 0;
    if (fields.id !== undefined) {
      if (this.last !== null && Number(fields.id) <= Number(this.last)) return; // heard already
      this.last = fields.id;
    }
    this.hear(fields.event ?? "message", JSON.parse(fields.data));
  }

  end() {
    this.ended = true;
    document.removeEventListener("visibilitychange", this.visible);
    this.reading?.abort();
  }
}
