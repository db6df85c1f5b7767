// @ts-check
/** The page: what it is made of, put together, and started. */

import { board as makeBoard } from "./board.js";
import { canvases } from "./canvases.js";
import { deedBar } from "./deeds.js";
import { byId, letDialogsClose, still } from "./dom.js";
import { dropping } from "./dropped.js";
import { gallery } from "./gallery.js";
import { keys } from "./keys.js";
import { ask } from "./link.js";
import { momentList } from "./moments.js";
import { askForToken, comeIn, failed, tellAll } from "./notices.js";
import { panel } from "./panel.js";
import { promptBar } from "./prompt.js";
import { Session } from "./session.js";
import { settingsForm } from "./settings.js";
import { staging } from "./staging.js";
import { stepRow } from "./steps.js";
import { theme } from "./theme.js";
import { toolRail } from "./tools.js";

const session = new Session(failed);
const board = makeBoard(byId("board"), session);
const tools = toolRail(session, board);
/** @type {ReturnType<typeof deedBar>} */ let deeds;
const settings = settingsForm(session, (editors) => deeds.offer(editors));
const prompt = promptBar(session, settings);
deeds = deedBar(session, board, prompt, settings);
const staged = staging(session, board);
const steps = stepRow(session, board);
const files = canvases(session);
const dropped = dropping(session, prompt.fill, settings.fill, files.open);
const pictures = gallery(session, dropped.goOn, prompt.fill);

tellAll(session);
momentList(session);
panel();
theme(() => board.redraw());
letDialogsClose();
keys({ session, board, tools, deeds, staged, steps, prompt });
byId("board").addEventListener("stroke", () => {
  if (document.activeElement instanceof HTMLElement) document.activeElement.blur(); // keys are the page's again
});
board.still(still.matches);
still.addEventListener("change", () => board.still(still.matches));

/** Who serves, and what it has on. @param {any} model */
function introduce(model) {
  byId("model").textContent = model.recipe_name || model.name;
  byId("device").textContent = model.device;
  byId("device").hidden = !model.device;
  byId("filters").hidden = !model.filters?.length;
  byId("filters").textContent =
    `filter: ${model.filters?.join(", ")}${model.previews === false ? "; pictures are shown when they are done" : ""}`;
  for (const id of ["prompt", "negative"]) byId(id).maxLength = model.limits?.prompt ?? byId(id).maxLength;
}

async function start() {
  try {
    await comeIn();
    const model = await ask("GET", "/api/model");
    introduce(model);
    steps.expect(model.stages);
    await Promise.all([session.resume(), settings.start(model), pictures.load()]);
    document.documentElement.dataset.ready = "yes";
  } catch (problem) {
    failed(problem);
  }
}

askForToken(start);
start();
