// @ts-check
/**
 * The board: the picture, the grid of its tokens over it, and the brush that chooses them.
 *
 * It imports nothing and speaks to its model through a `link`, so that the page and a notebook's widget use this one
 * file. Cells are counted in rows and columns of a stage's grid; bits are base64 of one bit a cell, row by row, the
 * most significant bit first. Pixels of the picture are `px` here, pixels of the screen `css`.
 *
 * @typedef {"brush" | "box" | "erase" | "freeze" | "thaw"} Tool
 * @typedef {{send: (action: object) => void, listen: (hear: (name: string, data: any) => void) => () => void}} Link
 * @typedef {{row: number, column: number}} Cell
 * @typedef {{grid: [number, number], known: Uint8Array, frozen: Uint8Array, erased: Uint8Array}} Grids
 * @typedef {{image: CanvasImageSource | null, stage: string, grid: [number, number], known: Uint8Array}} Live
 * @typedef {{image: string | null, stage: string, grid: [number, number], known: string, under?: string | null}} Shown
 *   one step of a drawing; `under` is what the stage before had drawn
 */

const MARGIN = 40; // css around the picture: room for the handles
const FINE = 120; // css of a cell from which on the brush goes over to the next stage's cells
const LARGEST = 64; // css a px that zoom goes up to
const SIDES = /** @type {const} */ (["left", "top", "right", "bottom"]);
const COLOURS = {
  paper: "#fbfaf7",
  veil: "#c9ccc8",
  dot: "#a9ada9",
  line: "#00000030",
  choice: "#2f4de0",
  ice: "#0b8fa3",
  rub: "#c2410c",
  ring: "#111827",
  halo: "#ffffff",
};

/** Base64 of packed bits to one byte a cell. @param {string} text @param {number} count @returns {Uint8Array} */
export function unpack(text, count) {
  const packed = atob(text);
  return Uint8Array.from({ length: count }, (_, i) => (packed.charCodeAt(i >> 3) >> (7 - (i & 7))) & 1);
}

/** One byte a cell to base64 of packed bits. @param {Uint8Array} cells @returns {string} */
export function pack(cells) {
  const packed = new Uint8Array(Math.ceil(cells.length / 8));
  cells.forEach((cell, i) => (packed[i >> 3] |= (cell ? 1 : 0) << (7 - (i & 7))));
  return btoa(String.fromCharCode(...packed));
}

/**
 * All cells on the straight way from one to another, both among them (Bresenham).
 * @param {Cell} from
 * @param {Cell} to
 * @returns {Cell[]}
 */
export function line(from, to) {
  const across = Math.abs(to.column - from.column),
    down = -Math.abs(to.row - from.row);
  const right = from.column < to.column ? 1 : -1,
    below = from.row < to.row ? 1 : -1;
  const way = [];
  let { row, column } = from,
    error = across + down;
  for (;;) {
    way.push({ row, column });
    if (row === to.row && column === to.column) return way;
    const twice = 2 * error;
    if (twice >= down) {
      error += down;
      column += right;
    }
    if (twice <= across) {
      error += across;
      row += below;
    }
  }
}

/**
 * The cells of a brush of a size around a cell: a square up to 2, then a disc.
 * @param {Cell} at
 * @param {number} size
 * @returns {Cell[]}
 */
export function stamp(at, size) {
  const first = -Math.floor((size - 1) / 2),
    middle = first + (size - 1) / 2,
    cells = [];
  for (let r = first; r < first + size; r++) {
    for (let c = first; c < first + size; c++) {
      if (size < 3 || Math.hypot(r - middle, c - middle) <= size / 2)
        cells.push({ row: at.row + r, column: at.column + c });
    }
  }
  return cells;
}

/**
 * The cells within some rings of chosen ones, those among them.
 * @param {Uint8Array} cells
 * @param {[number, number]} grid
 * @param {number} rings
 */
export function dilated(cells, [rows, columns], rings) {
  const grown = new Uint8Array(cells.length);
  cells.forEach((chosen, i) => {
    if (!chosen) return;
    const row = Math.floor(i / columns),
      column = i % columns;
    for (let r = Math.max(0, row - rings); r <= Math.min(rows - 1, row + rings); r++) {
      for (let c = Math.max(0, column - rings); c <= Math.min(columns - 1, column + rings); c++)
        grown[r * columns + c] = 1;
    }
  });
  return grown;
}

/**
 * Cells of one grid as those of another that they touch.
 * @param {Uint8Array} cells
 * @param {[number, number]} from
 * @param {[number, number]} to
 */
export function regridded(cells, from, to) {
  const found = new Uint8Array(to[0] * to[1]);
  const rows = Math.max(from[0], to[0]),
    columns = Math.max(from[1], to[1]);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const of = (/** @type {[number, number]} */ grid) =>
        Math.floor((r * grid[0]) / rows) * grid[1] + Math.floor((c * grid[1]) / columns);
      if (cells[of(from)]) found[of(to)] = 1;
    }
  }
  return found;
}

/**
 * A picture that can be drawn; of our own address or a data URL.
 * @param {string} url
 * @returns {Promise<CanvasImageSource>}
 */
async function opened(url) {
  if (!url.startsWith("data:")) {
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(`the picture did not come: ${answer.status}`);
    return createImageBitmap(await answer.blob());
  }
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

/** What one board holds; `board` below gives what others may call. */
class Board {
  /** @param {HTMLElement} element @param {Link} link */
  constructor(element, link) {
    this.element = element;
    this.link = link;
    this.canvas = document.createElement("canvas");
    this.pen = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    this.teller = document.createElement("span");
    this.handles = SIDES.map((side) => this.handle(side));
    /** @type {Tool} */ this.tool = "brush";
    this.size = 1;
    this.gridded = true;
    this.still = false; // no live picture: the first step and the last alone
    /** @type {Record<string, Grids>} */ this.grids = {};
    /** @type {[number, number]} */ this.picture = [0, 0];
    this.rings = 1;
    /** @type {string | null} */ this.stage = null;
    this.fixed = false; // the stage of the brush was asked for, and does not follow the zoom
    /** @type {Uint8Array} */ this.chosen = new Uint8Array(0);
    /** @type {Uint8Array[]} */ this.before = [];
    /** @type {Uint8Array[]} */ this.after = [];
    /** @type {CanvasImageSource | null} */ this.image = null;
    /** @type {CanvasImageSource | null} */ this.under = null; // what the stage before has drawn
    /** @type {Live | null} */ this.live = null;
    /** @type {(Shown & {drawn: CanvasImageSource | null, below: CanvasImageSource | null}) | null} */ this.other =
      null;
    this.asked = { image: 0, live: 0, other: 0 }; // pictures that were asked for, of each kind
    this.seen = 0; // the latest live picture that came
    this.busy = false;
    this.view = { scale: 1, x: 0, y: 0, fitted: true };
    /** @type {Map<number, {x: number, y: number, type: string}>} */ this.pointers = new Map();
    /** @type {{id: number, last: Cell, first: Cell, cells: Uint8Array, take: boolean} | null} */ this.stroke = null;
    /** @type {{x: number, y: number} | null} */ this.panning = null;
    /** @type {Cell | null} */ this.over = null;
    /** @type {Cell | null} */ this.walker = null;
    /** @type {{side: string, cells: number} | null} */ this.ghost = null;
    this.dirty = false;
    this.build();
  }

  build() {
    const { canvas, teller, element } = this;
    Object.assign(element.style, { position: "relative", touchAction: "none", overflow: "hidden" });
    Object.assign(canvas.style, {
      position: "absolute",
      inset: "0",
      width: "100%",
      height: "100%",
      touchAction: "none",
    });
    Object.assign(teller.style, {
      position: "absolute",
      width: "1px",
      height: "1px",
      overflow: "hidden",
      clipPath: "inset(50%)",
      whiteSpace: "nowrap",
    });
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-label", "Board: arrow keys walk over the tokens, space paints");
    teller.setAttribute("aria-live", "polite");
    element.replaceChildren(canvas, teller, ...this.handles);
    const on = (/** @type {string} */ name, /** @type {(event: any) => void} */ hear) =>
      canvas.addEventListener(name, hear, { passive: false });
    on("pointerdown", (event) => this.down(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.up(event));
    on("pointercancel", (event) => this.up(event, true));
    on("pointerleave", () => this.hover(null));
    on("wheel", (event) => this.wheel(event));
    on("contextmenu", (event) => event.preventDefault());
    on("mousedown", (event) => event.preventDefault()); // keys stay the page's: the board's are for who walks to it
    on("keydown", (event) => this.key(event));
    on("blur", () => {
      this.walker = null;
      this.redraw();
    });
    on("focus", () => {
      if (canvas.matches(":focus-visible")) this.walk(0, 0);
    });
    this.resizing = new ResizeObserver(() => {
      if (this.view.fitted) this.fit();
      this.redraw();
    });
    this.resizing.observe(element);
    this.deaf = this.link.listen((name, data) => this.hear(name, data));
  }

  end() {
    this.deaf?.();
    this.resizing?.disconnect();
    this.element.replaceChildren();
  }

  // ---- what the model tells

  /** @param {string} name @param {any} data */
  hear(name, data) {
    if (name === "state") this.adopt(data);
    if (name === "done") {
      this.busy = false;
      this.adopt(data.state);
    }
    if (name === "step") this.step(data);
    if (name === "failed" || name === "cancelled") {
      this.busy = false;
      this.live = this.under = null;
      this.redraw();
    }
  }

  /** Take the server's state for the truth. @param {any} state */
  async adopt(state) {
    const number = ++this.asked.image;
    this.rings = state.dilate ?? 1;
    this.busy = Boolean(state.job);
    this.regrid(state);
    const image =
      state.image && this.first && this.grids[this.first].known.some(Boolean)
        ? await opened(state.image).catch(() => null)
        : null;
    if (number !== this.asked.image) return; // another was asked for since
    this.image = image;
    if (!state.job) this.live = this.under = null;
    this.redraw();
    this.tell("picture", { size: this.picture });
  }

  /** @param {any} state */
  regrid(state) {
    const [width, height] = state.size;
    const moved = width !== this.picture[0] || height !== this.picture[1];
    for (const [stage, { grid, known, frozen, erased }] of Object.entries(
      /** @type {Record<string, any>} */ (state.grids),
    )) {
      const count = grid[0] * grid[1];
      this.grids[stage] = {
        grid,
        known: unpack(known, count),
        frozen: unpack(frozen, count),
        erased: unpack(erased, count),
      };
    }
    this.picture = [width, height];
    if (!this.stage || !this.grids[this.stage]) this.stage = this.first;
    if (this.cells.length !== this.chosen.length) this.forget();
    if (moved) this.fit();
    this.redraw();
  }

  /** @param {any} data */
  async step(data) {
    this.busy = true;
    const count = data.grid[0] * data.grid[1];
    if (this.live && this.live.stage !== data.stage) this.under = this.live.image;
    const first = !this.live || this.live.stage !== data.stage;
    if (!first && (this.still || (!data.image && this.live?.image))) return; // without a picture the last one stays
    const number = ++this.asked.live;
    const image = data.image ? await opened(data.image) : null;
    if (number < this.seen || !this.busy) return; // a later one was quicker
    this.seen = number;
    this.live = { image, stage: data.stage, grid: data.grid, known: unpack(data.known, count) };
    this.redraw();
  }

  /** Show a step or a staged picture instead of the canvas; null goes back. @param {Shown | null} shown */
  async show(shown) {
    const number = ++this.asked.other;
    const [drawn, below] = await Promise.all([shown?.image, shown?.under].map((url) => (url ? opened(url) : null)));
    if (number !== this.asked.other) return; // another was asked for since
    this.other = shown && { ...shown, drawn, below };
    this.redraw();
  }

  // ---- cells

  get first() {
    return Object.keys(this.grids)[0] ?? null;
  }
  get grid() {
    return this.stage ? this.grids[this.stage].grid : /** @type {[number, number]} */ ([0, 0]);
  }
  get cells() {
    return this.stage ? this.grids[this.stage].known : new Uint8Array(0);
  }

  forget() {
    this.chosen = new Uint8Array(this.cells.length);
    this.before = [];
    this.after = [];
    this.tell("region", { cells: 0 });
  }

  /** @param {Uint8Array} cells */
  choose(cells) {
    this.before.push(this.chosen);
    this.after = [];
    this.chosen = cells;
    this.changed();
  }

  changed() {
    this.tell("region", { cells: this.chosen.reduce((sum, cell) => sum + cell, 0) });
    this.redraw();
  }

  /** Take the last stroke back, or do it again; false where there is none. @param {boolean} again @returns {boolean} */
  unstroke(again) {
    const cells = (again ? this.after : this.before).pop();
    if (!cells) return false;
    (again ? this.before : this.after).push(this.chosen);
    this.chosen = cells;
    this.changed();
    return true;
  }

  /** Choose among another stage's cells. @param {string} stage */
  restage(stage) {
    if (!this.grids[stage] || stage === this.stage) return;
    const [from, to] = [this.grid, this.grids[stage].grid];
    this.chosen = regridded(this.chosen, from, to);
    this.before = [];
    this.after = [];
    this.stage = stage;
    this.walker = null;
    this.changed();
    this.tell("stage", { stage });
  }

  /** The brush goes over to finer cells where they are large enough to be met. */
  follow() {
    if (this.fixed || this.chosen.some(Boolean) || !this.first) return;
    const large = (this.picture[0] / this.grids[this.first].grid[1]) * this.view.scale >= FINE;
    this.restage(large ? (Object.keys(this.grids)[1] ?? this.first) : this.first);
  }

  region() {
    return this.chosen.some(Boolean) ? { cells: { stage: this.stage, bits: pack(this.chosen) } } : null;
  }

  /** @param {string} name @param {any} detail */
  tell(name, detail) {
    this.element.dispatchEvent(new CustomEvent(name, { detail }));
  }

  // ---- pointers

  /** @param {{clientX: number, clientY: number}} event @returns {Cell} also beyond the picture */
  at(event) {
    const box = this.canvas.getBoundingClientRect(),
      { scale, x, y } = this.view;
    const [rows, columns] = this.grid;
    return {
      row: Math.floor(((event.clientY - box.top - y) / scale / this.picture[1]) * rows),
      column: Math.floor(((event.clientX - box.left - x) / scale / this.picture[0]) * columns),
    };
  }

  /** @param {PointerEvent} event */
  down(event) {
    event.preventDefault();
    if (event.isTrusted) this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, type: event.pointerType });
    const fingers = [...this.pointers.values()].filter((pointer) => pointer.type === "touch").length;
    if (fingers > 1) {
      this.stroke = null;
      this.redraw();
      return;
    } // two fingers pan and zoom
    if (event.button === 1) {
      this.panning = { x: event.clientX, y: event.clientY };
      return;
    }
    if (event.button !== 0 && event.button !== 5) return;
    if (this.stroke || !this.stage || (this.tool !== "brush" && this.tool !== "box" && this.busy)) return;
    const cell = this.at(event),
      take = event.altKey || event.button === 5 || (event.buttons & 32) !== 0;
    this.stroke = { id: event.pointerId, first: cell, last: cell, cells: new Uint8Array(this.cells.length), take };
    this.tell("stroke", {});
    this.extendStroke(cell);
  }

  /** @param {PointerEvent} event */
  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (this.pointers.size > 1 && before?.type === "touch") {
      this.pinch(event, before);
      return;
    }
    if (before) Object.assign(before, { x: event.clientX, y: event.clientY });
    if (this.panning) {
      this.pan(event.clientX - this.panning.x, event.clientY - this.panning.y);
      this.panning = { x: event.clientX, y: event.clientY };
    } else if (this.stroke?.id === event.pointerId) {
      const way = event.getCoalescedEvents?.() ?? [];
      for (const each of way.length ? way : [event]) this.extendStroke(this.at(each));
    }
    if (event.pointerType !== "touch") this.hover(this.at(event));
  }

  /** @param {PointerEvent} event @param {boolean} lost */
  up(event, lost = false) {
    this.pointers.delete(event.pointerId);
    this.panning = null;
    if (this.stroke?.id !== event.pointerId) return;
    const stroke = this.stroke;
    this.stroke = null;
    if (!lost) this.apply(stroke.cells, stroke.take);
    this.redraw();
  }

  /** @param {Cell} cell */
  extendStroke(cell) {
    const stroke = /** @type {NonNullable<Board["stroke"]>} */ (this.stroke);
    if (this.tool === "box") {
      stroke.cells.fill(0);
      const [top, bottom] = [stroke.first.row, cell.row].sort((a, b) => a - b),
        [left, right] = [stroke.first.column, cell.column].sort((a, b) => a - b);
      for (let row = top; row <= bottom; row++)
        for (let column = left; column <= right; column++) this.mark(stroke.cells, { row, column });
    } else {
      for (const step of line(stroke.last, cell))
        for (const each of stamp(step, this.size)) this.mark(stroke.cells, each);
    }
    stroke.last = cell;
    this.redraw();
  }

  /** @param {Uint8Array} cells @param {Cell} cell */
  mark(cells, { row, column }) {
    const [rows, columns] = this.grid;
    if (row >= 0 && column >= 0 && row < rows && column < columns) cells[row * columns + column] = 1;
  }

  /** What a finished stroke does. @param {Uint8Array} cells @param {boolean} take away rather than add */
  apply(cells, take) {
    if (!cells.some(Boolean)) return;
    if (this.tool === "brush" || this.tool === "box") {
      this.choose(this.chosen.map((cell, i) => (cells[i] ? (take ? 0 : 1) : cell)));
      return;
    }
    if (this.tool === "erase" && take) return; // what is erased can only be drawn anew, or undone
    const opposite = { freeze: "thaw", thaw: "freeze", erase: "erase" }[this.tool];
    this.link.send({ do: take ? opposite : this.tool, region: { cells: { stage: this.stage, bits: pack(cells) } } });
  }

  /** @param {Cell | null} cell */
  hover(cell) {
    const [rows, columns] = this.grid;
    const inside = cell && cell.row >= 0 && cell.column >= 0 && cell.row < rows && cell.column < columns ? cell : null;
    if (inside?.row === this.over?.row && inside?.column === this.over?.column) return;
    this.over = inside;
    this.tell("hover", inside && { stage: this.stage, ...inside });
    this.redraw();
  }

  // ---- view

  fit() {
    const { clientWidth, clientHeight } = this.element,
      [width, height] = this.picture;
    if (!width || !clientWidth) return;
    const scale = Math.max(0.1, Math.min((clientWidth - 2 * MARGIN) / width, (clientHeight - 2 * MARGIN) / height));
    this.view = { scale, x: (clientWidth - width * scale) / 2, y: (clientHeight - height * scale) / 2, fitted: true };
    this.follow();
    this.redraw();
    this.tell("view", { zoom: 1 });
  }

  /** @param {number} factor @param {{x: number, y: number}} [about] css of the board, its middle unless given */
  zoom(factor, about = { x: this.element.clientWidth / 2, y: this.element.clientHeight / 2 }) {
    const { x, y, scale } = this.view,
      next = Math.min(LARGEST, Math.max(0.1, scale * factor)),
      ratio = next / scale;
    this.view = { scale: next, x: about.x - (about.x - x) * ratio, y: about.y - (about.y - y) * ratio, fitted: false };
    this.follow();
    this.redraw();
    this.tell("view", { zoom: next });
  }

  /** @param {number} across @param {number} down css */
  pan(across, down) {
    this.view = { ...this.view, x: this.view.x + across, y: this.view.y + down, fitted: false };
    this.redraw();
    this.tell("view", { zoom: this.view.scale });
  }

  /** @param {PointerEvent} event @param {{x: number, y: number, type: string}} before */
  pinch(event, before) {
    const other = [...this.pointers].find(([id, pointer]) => id !== event.pointerId && pointer.type === "touch")?.[1];
    if (!other) return;
    const box = this.canvas.getBoundingClientRect();
    const apart = (/** @type {{x: number, y: number}} */ a) => Math.hypot(a.x - other.x, a.y - other.y);
    const now = { x: event.clientX, y: event.clientY };
    this.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    this.zoom(apart(now) / Math.max(1, apart(before)), {
      x: (now.x + other.x) / 2 - box.left,
      y: (now.y + other.y) / 2 - box.top,
    });
    Object.assign(before, now);
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    if (!event.ctrlKey && this.view.fitted) return; // the page scrolls
    event.preventDefault();
    const box = this.canvas.getBoundingClientRect();
    if (event.ctrlKey)
      this.zoom(Math.exp(-event.deltaY / 200), { x: event.clientX - box.left, y: event.clientY - box.top });
    else this.pan(-event.deltaX, -event.deltaY);
  }

  // ---- keyboard: a walk over the cells

  /** @param {KeyboardEvent} event */
  key(event) {
    const ways = /** @type {Record<string, [number, number]>} */ ({
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    });
    if (event.ctrlKey || event.metaKey) return;
    if (ways[event.key]) this.walk(...ways[event.key]);
    else if (event.key === " " && this.walker) this.paintWalked(event.altKey);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {number} down @param {number} right */
  walk(down, right) {
    const [rows, columns] = this.grid;
    if (!rows) return;
    const from = this.walker ?? {
      row: Math.floor((rows - 1) / 2) - down,
      column: Math.floor((columns - 1) / 2) - right,
    };
    this.walker = {
      row: Math.min(rows - 1, Math.max(0, from.row + down)),
      column: Math.min(columns - 1, Math.max(0, from.column + right)),
    };
    this.say();
    this.tell("hover", { stage: this.stage, ...this.walker });
    this.redraw();
  }

  say() {
    if (!this.walker || !this.stage) return;
    const i = this.walker.row * this.grid[1] + this.walker.column,
      { frozen, erased } = this.grids[this.stage];
    const marks = [this.chosen[i] && "chosen", frozen[i] && "frozen", erased[i] && "empty"].filter(Boolean);
    this.teller.textContent = [`row ${this.walker.row + 1}`, `column ${this.walker.column + 1}`, ...marks].join(", ");
  }

  /** @param {boolean} take */
  paintWalked(take) {
    const walker = /** @type {Cell} */ (this.walker),
      cells = new Uint8Array(this.cells.length);
    for (const cell of stamp(walker, this.size)) this.mark(cells, cell);
    const again = this.chosen[walker.row * this.grid[1] + walker.column] === 1;
    if (this.tool === "brush" || this.tool === "box" || !this.busy)
      this.apply(cells, take || (again && (this.tool === "brush" || this.tool === "box")));
    this.say();
  }

  // ---- handles: a side is dragged outwards

  /** @param {typeof SIDES[number]} side */
  handle(side) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = `handle ${side}`;
    button.setAttribute("aria-label", `Extend the picture to the ${side}: drag, or arrow keys and Enter`);
    button.title = `Drag to extend to the ${side}`;
    Object.assign(button.style, { position: "absolute", touchAction: "none" });
    /** @type {{x: number, y: number} | null} */ let from = null;
    button.addEventListener("pointerdown", (event) => {
      if (event.isTrusted) button.setPointerCapture(event.pointerId);
      from = { x: event.clientX, y: event.clientY };
    });
    button.addEventListener("pointermove", (event) => {
      if (from) this.stretch(side, this.outwards(side, event.clientX - from.x, event.clientY - from.y));
    });
    button.addEventListener("pointerup", () => {
      from = null;
      this.grow();
    });
    button.addEventListener("pointercancel", () => {
      from = null;
      this.ghost = null;
      this.redraw();
    });
    button.addEventListener("blur", () => {
      this.ghost = null;
      this.redraw();
    });
    button.addEventListener("keydown", (event) => this.handleKey(side, event));
    return button;
  }

  /**
   * How many cells a way on the screen is, away from the picture.
   * @param {string} side
   * @param {number} across
   * @param {number} down css
   */
  outwards(side, across, down) {
    const [rows, columns] = this.grids[/** @type {string} */ (this.first)].grid;
    const flat = side === "left" || side === "right";
    const way = flat ? (side === "left" ? -across : across) : side === "top" ? -down : down;
    return Math.max(0, Math.round(way / this.view.scale / (flat ? this.picture[0] / columns : this.picture[1] / rows)));
  }

  /** @param {string} side @param {number} cells */
  stretch(side, cells) {
    this.ghost = { side, cells };
    this.redraw();
  }

  /** @param {string} side @param {KeyboardEvent} event */
  handleKey(side, event) {
    const out = { left: "ArrowLeft", right: "ArrowRight", top: "ArrowUp", bottom: "ArrowDown" }[side];
    const back = { left: "ArrowRight", right: "ArrowLeft", top: "ArrowDown", bottom: "ArrowUp" }[side];
    const now = this.ghost?.side === side ? this.ghost.cells : 0;
    if (event.key === out) this.stretch(side, now + 1);
    else if (event.key === back) this.stretch(side, Math.max(0, now - 1));
    else if (event.key === "Enter" && now) this.grow();
    else if (event.key === "Escape" && now) {
      this.ghost = null;
      this.redraw();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  grow() {
    const ghost = this.ghost;
    this.ghost = null;
    this.redraw();
    if (!ghost?.cells || this.busy) return;
    const [rows, columns] = this.grids[/** @type {string} */ (this.first)].grid;
    const flat = ghost.side === "left" || ghost.side === "right";
    const cell = flat ? this.picture[0] / columns : this.picture[1] / rows;
    this.link.send({ do: "extend", [ghost.side]: Math.round(ghost.cells * cell) });
  }

  // ---- drawing

  redraw() {
    if (this.dirty) return;
    this.dirty = true;
    requestAnimationFrame(() => {
      this.dirty = false;
      this.draw();
    });
  }

  draw() {
    const { pen, canvas, element } = this,
      ratio = window.devicePixelRatio || 1;
    const [width, height] = [element.clientWidth, element.clientHeight];
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!this.stage) return;
    this.colours = this.read();
    this.drawPicture();
    this.drawMarks();
    this.drawGhost();
    this.placeHandles();
    this.tell("drawn", {});
  }

  /** The colours of the style sheet, ours where there is none. @returns {typeof COLOURS} */
  read() {
    const style = getComputedStyle(this.element),
      found = { ...COLOURS };
    for (const key of /** @type {(keyof typeof COLOURS)[]} */ (Object.keys(COLOURS)))
      found[key] = style.getPropertyValue(`--board-${key}`).trim() || COLOURS[key];
    return found;
  }

  /**
   * The box of some cells of a grid on the screen.
   * @param {[number, number]} grid
   * @param {number} row
   * @param {number} column
   * @returns {[number, number, number, number]}
   */
  box([rows, columns], row, column, tall = 1, wide = 1) {
    const { scale, x, y } = this.view,
      w = (this.picture[0] * scale) / columns,
      h = (this.picture[1] * scale) / rows;
    return [x + column * w, y + row * h, w * wide, h * tall];
  }

  /**
   * A path around all cells that are set.
   * @param {Uint8Array} cells
   * @param {[number, number]} grid
   * @param {number} [inset] css
   */
  path(cells, grid, inset = 0) {
    const path = new Path2D();
    cells.forEach((cell, i) => {
      if (!cell) return;
      const [x, y, w, h] = this.box(grid, Math.floor(i / grid[1]), i % grid[1]);
      path.rect(x + inset, y + inset, w - 2 * inset, h - 2 * inset);
    });
    return path;
  }

  /**
   * The lines between cells that are set and cells that are not.
   * @param {Uint8Array} cells
   * @param {[number, number]} grid
   */
  outline(cells, grid) {
    const path = new Path2D(),
      [rows, columns] = grid;
    const is = (/** @type {number} */ r, /** @type {number} */ c) =>
      r >= 0 && c >= 0 && r < rows && c < columns && cells[r * columns + c];
    cells.forEach((cell, i) => {
      if (!cell) return;
      const row = Math.floor(i / columns),
        column = i % columns,
        [x, y, w, h] = this.box(grid, row, column);
      const edge = (/** @type {number[]} */ [a, b, c, d]) => {
        path.moveTo(a, b);
        path.lineTo(c, d);
      };
      if (!is(row - 1, column)) edge([x, y, x + w, y]);
      if (!is(row + 1, column)) edge([x, y + h, x + w, y + h]);
      if (!is(row, column - 1)) edge([x, y, x, y + h]);
      if (!is(row, column + 1)) edge([x + w, y, x + w, y + h]);
    });
    return path;
  }

  /**
   * A small pattern: dots, or stripes from the left to the right.
   * @param {"dots" | "stripes" | "cross"} kind
   * @param {string} colour
   */
  pattern(kind, colour) {
    const tile = document.createElement("canvas"),
      side = kind === "dots" ? 8 : 9;
    Object.assign(tile, { width: side, height: side });
    const pen = /** @type {CanvasRenderingContext2D} */ (tile.getContext("2d"));
    pen.fillStyle = pen.strokeStyle = colour;
    pen.lineWidth = 1.6;
    if (kind === "dots") {
      pen.beginPath();
      pen.arc(4, 4, 1.2, 0, 7);
      pen.fill();
      return this.pen.createPattern(tile, "repeat");
    }
    for (const shift of [-side, 0, side]) {
      pen.beginPath();
      pen.moveTo(shift, side);
      pen.lineTo(shift + side, 0);
      pen.stroke();
      if (kind === "cross") {
        pen.beginPath();
        pen.moveTo(shift, 0);
        pen.lineTo(shift + side, side);
        pen.stroke();
      }
    }
    return this.pen.createPattern(tile, "repeat");
  }

  /** @param {Path2D} path @param {"dots" | "stripes" | "cross"} kind @param {string} colour @param {number} [alpha] */
  patterned(path, kind, colour, alpha = 1) {
    this.pen.save();
    this.pen.globalAlpha = alpha;
    this.pen.fillStyle = /** @type {CanvasPattern} */ (this.pattern(kind, colour));
    this.pen.fill(path);
    this.pen.restore();
  }

  drawPicture() {
    const { pen, colours, view } = this,
      c = /** @type {typeof COLOURS} */ (colours);
    const place = /** @type {[number, number, number, number]} */ ([
      view.x,
      view.y,
      this.picture[0] * view.scale,
      this.picture[1] * view.scale,
    ]);
    const whole = this.grids[/** @type {string} */ (this.first)];
    pen.fillStyle = c.paper;
    pen.fillRect(...place);
    pen.imageSmoothingEnabled = view.scale < 12;
    pen.imageSmoothingQuality = "high";
    const other = this.other,
      live = other
        ? {
            image: other.drawn,
            stage: other.stage,
            grid: other.grid,
            known: unpack(other.known, other.grid[0] * other.grid[1]),
          }
        : this.live;
    if (!live) {
      if (this.image) pen.drawImage(this.image, ...place);
      if (whole.erased.every(Boolean))
        this.patterned(this.path(whole.erased, whole.grid), "dots", c.dot, 0.4); // a blank sheet
      else this.veil(whole.erased, whole.grid, 1);
      return;
    }
    const later = live.stage !== this.first,
      under = other ? other.below : this.under;
    const back = later && under ? under : other ? null : this.image;
    if (back) pen.drawImage(back, ...place);
    if (live.image)
      this.clipped(later && back ? live.known : null, live.grid, () =>
        pen.drawImage(/** @type {CanvasImageSource} */ (live.image), ...place),
      );
    else if (!(later && under)) this.known(live.known, live.grid);
    this.veil(
      live.known.map((cell) => 1 - cell),
      live.grid,
      later && (under || !live.image) ? 0.45 : 1,
    );
  }

  /** @param {Uint8Array | null} cells @param {[number, number]} grid @param {() => void} draw */
  clipped(cells, grid, draw) {
    this.pen.save();
    if (cells) this.pen.clip(this.path(cells, grid, -0.25));
    draw();
    this.pen.restore();
  }

  /** Cells without a picture: only that they are decided. @param {Uint8Array} cells @param {[number, number]} grid */
  known(cells, grid) {
    this.patterned(this.path(cells, grid, 1.5), "cross", /** @type {typeof COLOURS} */ (this.colours).choice, 0.3);
  }

  /** Cells of which nothing is known. @param {Uint8Array} cells @param {[number, number]} grid @param {number} alpha */
  veil(cells, grid, alpha) {
    const c = /** @type {typeof COLOURS} */ (this.colours),
      path = this.path(cells, grid);
    this.pen.save();
    this.pen.globalAlpha = alpha;
    this.pen.fillStyle = c.veil;
    this.pen.fill(path);
    this.pen.restore();
    this.patterned(path, "dots", c.dot, alpha);
  }

  drawMarks() {
    const { pen, stage, grid } = this,
      c = /** @type {typeof COLOURS} */ (this.colours);
    const { frozen } = this.grids[/** @type {string} */ (stage)];
    this.marked(frozen, "stripes", c.ice, 0.14);
    this.flakes(frozen, c.ice);
    const erasing = this.stroke && this.tool === "erase" && !this.stroke.take ? this.stroke.cells : null,
      chosen = erasing ?? this.chosen;
    const rim = dilated(chosen, grid, this.rings).map((cell, i) => (cell && !chosen[i] && !frozen[i] ? 1 : 0));
    this.marked(rim, "dots", c.choice, 0.12, false);
    pen.setLineDash([5, 5]);
    if (rim.some(Boolean))
      this.haloed(
        this.outline(
          rim.map((cell, i) => cell || chosen[i]),
          grid,
        ),
        c.choice,
        1.2,
      );
    pen.setLineDash([]);
    this.marked(this.chosen, null, c.choice, 0.36);
    if (this.stroke) this.drawStroke(this.stroke);
    if (this.gridded) this.drawGrid();
    if (this.over && !this.stroke && this.tool !== "box") {
      const cells = new Uint8Array(this.cells.length);
      for (const cell of stamp(this.over, this.size)) this.mark(cells, cell);
      this.haloed(this.outline(cells, grid), this.toolColour());
    }
    if (this.walker) {
      const [x, y, w, h] = this.box(grid, this.walker.row, this.walker.column);
      pen.strokeStyle = c.halo;
      pen.lineWidth = 6;
      pen.strokeRect(x, y, w, h);
      pen.strokeStyle = c.ring;
      pen.lineWidth = 3;
      pen.strokeRect(x, y, w, h);
    }
  }

  toolColour() {
    const c = /** @type {typeof COLOURS} */ (this.colours);
    return { brush: c.choice, box: c.choice, erase: c.rub, freeze: c.ice, thaw: c.rub }[this.tool];
  }

  /** @param {{cells: Uint8Array, take: boolean}} stroke */
  drawStroke({ cells, take }) {
    const c = /** @type {typeof COLOURS} */ (this.colours);
    if (take) this.marked(cells, "cross", c.rub, 0.2);
    else
      this.marked(
        cells,
        this.tool === "freeze" ? "stripes" : this.tool === "brush" || this.tool === "box" ? null : "cross",
        this.toolColour(),
        0.36,
      );
  }

  /**
   * Cells tinted, perhaps patterned, with a line around.
   * @param {Uint8Array} cells
   * @param {"dots" | "stripes" | "cross" | null} kind
   * @param {string} colour
   * @param {number} alpha
   */
  marked(cells, kind, colour, alpha, lined = true) {
    const { pen, grid } = this;
    if (cells.length !== grid[0] * grid[1] || !cells.some(Boolean)) return;
    const path = this.path(cells, grid);
    pen.save();
    pen.globalAlpha = alpha;
    pen.fillStyle = colour;
    pen.fill(path);
    pen.restore();
    if (kind) this.patterned(path, kind, colour, 0.5);
    if (lined) this.haloed(this.outline(cells, grid), colour);
  }

  /** A line that is seen on any picture. @param {Path2D} path @param {string} colour @param {number} [width] css */
  haloed(path, colour, width = 2.5) {
    const { pen } = this;
    pen.strokeStyle = /** @type {typeof COLOURS} */ (this.colours).halo;
    pen.lineWidth = 2 * width;
    pen.stroke(path);
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.stroke(path);
  }

  /** @param {Uint8Array} cells @param {string} colour */
  flakes(cells, colour) {
    const { pen, grid } = this,
      size = this.box(grid, 0, 0)[2];
    if (size < 22) return;
    cells.forEach((cell, i) => {
      if (!cell) return;
      const [x, y, w, h] = this.box(grid, Math.floor(i / grid[1]), i % grid[1]),
        r = Math.min(9, w / 6);
      pen.strokeStyle = colour;
      pen.lineWidth = 2;
      for (let turn = 0; turn < 3; turn++) {
        const across = Math.cos((turn * Math.PI) / 3 + Math.PI / 2) * r,
          down = Math.sin((turn * Math.PI) / 3 + Math.PI / 2) * r;
        pen.beginPath();
        pen.moveTo(x + w / 2 - across, y + h / 2 - down);
        pen.lineTo(x + w / 2 + across, y + h / 2 + down);
        pen.stroke();
      }
    });
  }

  drawGrid() {
    const { pen, grid } = this,
      [rows, columns] = grid,
      [x, y, w, h] = this.box(grid, 0, 0),
      c = /** @type {typeof COLOURS} */ (this.colours);
    pen.strokeStyle = c.line;
    pen.lineWidth = 1;
    pen.beginPath();
    for (let row = 0; row <= rows; row++) {
      pen.moveTo(x, Math.round(y + row * h) + 0.5);
      pen.lineTo(x + columns * w, Math.round(y + row * h) + 0.5);
    }
    for (let column = 0; column <= columns; column++) {
      pen.moveTo(Math.round(x + column * w) + 0.5, y);
      pen.lineTo(Math.round(x + column * w) + 0.5, y + rows * h);
    }
    pen.stroke();
  }

  /** Where the picture will be after the drag. */
  drawGhost() {
    if (!this.ghost?.cells || !this.first) return;
    const { side, cells } = this.ghost,
      grid = this.grids[this.first].grid,
      [rows, columns] = grid,
      c = /** @type {typeof COLOURS} */ (this.colours);
    const place = {
      left: this.box(grid, 0, -cells, rows, cells),
      right: this.box(grid, 0, columns, rows, cells),
      top: this.box(grid, -cells, 0, cells, columns),
      bottom: this.box(grid, rows, 0, cells, columns),
    }[side];
    const path = new Path2D();
    path.rect(.../** @type {[number, number, number, number]} */ (place));
    this.patterned(path, "dots", c.choice, 0.8);
    this.pen.strokeStyle = c.choice;
    this.pen.lineWidth = 2;
    this.pen.stroke(path);
  }

  placeHandles() {
    const { scale, x, y } = this.view,
      width = this.picture[0] * scale,
      height = this.picture[1] * scale;
    const middle = {
      left: [x - 18, y + height / 2],
      right: [x + width + 18, y + height / 2],
      top: [x + width / 2, y - 18],
      bottom: [x + width / 2, y + height + 18],
    };
    for (const [i, side] of SIDES.entries()) {
      const [left, top] = middle[side];
      Object.assign(this.handles[i].style, { left: `${left}px`, top: `${top}px`, transform: "translate(-50%, -50%)" });
    }
  }
}

/**
 * A board in an empty element that has a height; `link` sends its actions and gives it the model's events.
 *
 * On the element it fires "region" ({cells}), "hover" ({stage, row, column} or null), "stroke", "stage", "view",
 * "picture" and "drawn".
 *
 * @param {HTMLElement} element @param {Link} link
 */
export function board(element, link) {
  const it = new Board(element, link);
  return {
    get tool() {
      return it.tool;
    },
    get size() {
      return it.size;
    },
    get stage() {
      return it.stage;
    },
    get stages() {
      return Object.keys(it.grids);
    },
    get busy() {
      return it.busy;
    },
    /** @param {Tool} tool */ use(tool) {
      it.tool = tool;
      it.redraw();
    },
    /** The brush's width in cells. @param {number} size */ resize(size) {
      it.size = size;
      it.redraw();
    },
    /** The stage whose cells are chosen; null follows the zoom. @param {string | null} stage */
    among(stage) {
      it.fixed = stage !== null;
      if (stage) it.restage(stage);
      else it.follow();
    },
    /** @param {boolean} on */ grid(on) {
      it.gridded = on;
      it.redraw();
    },
    /** No live picture but the first of a stage. @param {boolean} on */ still(on) {
      it.still = on;
    },
    region: () => it.region(),
    /** @param {Uint8Array} cells of the stage that is chosen from */ select(cells) {
      it.choose(cells);
    },
    all() {
      it.choose(new Uint8Array(it.cells.length).fill(1));
    },
    clear() {
      if (it.chosen.some(Boolean)) it.choose(new Uint8Array(it.cells.length));
    },
    unstroke: (/** @type {boolean} */ again = false) => it.unstroke(again),
    /** How many strokes can be taken back, or done again. */ strokes: (/** @type {boolean} */ again = false) =>
      (again ? it.after : it.before).length,
    /** Take what is chosen for good: its strokes are not taken back any more. */
    settle() {
      it.before = [];
      it.after = [];
      it.changed();
    },
    zoom: (/** @type {number} */ factor) => it.zoom(factor),
    fit: () => it.fit(),
    pan: (/** @type {number} */ across, /** @type {number} */ down) => it.pan(across, down),
    show: (/** @type {Shown | null} */ shown) => it.show(shown),
    redraw: () => it.redraw(),
    end: () => it.end(),
  };
}
