// @ts-check
/** The curve of a schedule: the share of tokens that is still open over the steps of a drawing. */

import { ask } from "./link.js";
import { make } from "./dom.js";

const WIDE = 96,
  HIGH = 44;

/** @param {string} name @param {Record<string, any>} given */
function drawn(name, given) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(given)) element.setAttribute(key, String(value));
  return element;
}

/**
 * A figure that fills itself when the server has told the points.
 * @param {any} table the schedule's, as a recipe has it
 */
export function curve(table) {
  const figure = make("figure", { class: "curve", hidden: true });
  ask("POST", "/api/curve", { schedule: table }).then(
    ({ points }) => {
      const at = points
        .map(
          (/** @type {number} */ share, /** @type {number} */ i) =>
            `${(i / (points.length - 1)) * WIDE},${HIGH - share * HIGH}`,
        )
        .join(" ");
      const svg = drawn("svg", {
        viewBox: `-2 -2 ${WIDE + 4} ${HIGH + 4}`,
        role: "img",
        "aria-label": `Schedule ${table.use}: the share of open tokens over the steps`,
      });
      svg.append(
        drawn("polygon", { points: `0,${HIGH} ${at} ${WIDE},${HIGH}`, class: "under" }),
        drawn("polyline", { points: at }),
      );
      figure.replaceChildren(svg, make("figcaption", {}, "open tokens, from the first step to the last"));
      figure.hidden = false;
    },
    () => figure.remove(),
  ); // the field says what is wrong with it
  return figure;
}
