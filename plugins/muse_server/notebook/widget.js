/** What a notebook has around the board, which stands above in the same module: a link to the kernel, a few buttons. */

const TOOLS = { brush: "Brush", box: "Box", erase: "Erase", freeze: "Freeze", thaw: "Thaw" };

/** The board's link by a widget's messages. */
function linkTo(model) {
  return {
    send: (action) => model.send({ act: action }),
    listen(hear) {
      const heard = (message) => hear(message.name, message.data);
      model.on("msg:custom", heard);
      return () => model.off("msg:custom", heard);
    },
  };
}

function made(tag, properties, ...inside) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...inside);
  return element;
}

function render({ model, el }) {
  const link = linkTo(model);
  const surface = made("div", { className: "muse-surface" });
  surface.style.height = `${model.get("height")}px`;
  const mat = board(surface, link);
  const prompt = made("input", { type: "text", placeholder: "what to draw", ariaLabel: "Prompt" });
  const size = made("input", { type: "range", min: "1", max: "6", value: "1", ariaLabel: "Brush size" });
  const status = made("span", { className: "muse-status", role: "status" });
  const button = (name, press) => made("button", { type: "button", textContent: name, onclick: press });
  const words = () => (prompt.value.trim() ? { prompt: prompt.value.trim() } : {});

  const tools = Object.entries(TOOLS).map(([tool, name]) => button(name, () => use(tool)));
  const draw = button("Draw", () => link.send({ do: "generate", prompt: prompt.value.trim() }));
  const again = button("Draw region anew", () => link.send({ do: "reroll", region: mat.region(), ...words() }));
  const fill = button("Fill", () => link.send({ do: "fill", ...words() }));
  const undo = button("Undo", () => { if (!mat.unstroke()) link.send({ do: "undo" }); });
  const redo = button("Redo", () => { if (!mat.unstroke(true)) link.send({ do: "redo" }); });
  const cancel = button("Cancel", () => model.send({ cancel: true }));
  draw.className = "muse-first";

  function use(tool) {
    mat.use(tool);
    tools.forEach((each, i) => each.setAttribute("aria-pressed", String(Object.keys(TOOLS)[i] === tool)));
  }

  function busy(drawing) {
    for (const each of [draw, again, fill, undo, redo]) each.disabled = drawing;
    cancel.disabled = !drawing;
  }

  const deaf = link.listen((name, data) => {
    if (name === "done") mat.settle();
    if (name !== "refused") busy(name === "waiting" || name === "step");
    status.textContent = {
      step: `${data.stage}: step ${data.step} of ${data.steps}`,
      cancelled: "cancelled; the canvas is as it was",
    }[name] ?? data.message ?? "";
  });

  prompt.addEventListener("keydown", (event) => {
    event.stopPropagation(); // a notebook has keys of its own
    if (event.key === "Enter" && !draw.disabled) draw.click();
    if (event.key === "Escape" && !cancel.disabled) cancel.click();
  });
  size.addEventListener("input", () => mat.resize(Number(size.value)));
  surface.addEventListener("keydown", (event) => event.stopPropagation());

  el.classList.add("muse-board");
  el.append(
    made("div", { className: "muse-row" }, prompt, draw, again, fill, cancel),
    surface,
    made("div", { className: "muse-row" }, ...tools, size, undo, redo, status),
  );
  use("brush");
  busy(false);
  model.send({ shown: true });
  return () => { deaf(); mat.end(); };
}

export default { render };
