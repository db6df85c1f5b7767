// @ts-check
/** What one token is: its code, and the step at which it was decided. */

import { unpack } from "./board.js";

/**
 * @typedef {{stage: string, step: number, steps: number, grid: [number, number], known: string, codes: string,
 *   image: string | null}} Step   codes: base64 of uint16, the lower byte first
 */

/** What is known of a token. @param {{stage: string, row: number, column: number}} cell @param {Step[]} steps */
export function told({ stage, row, column }, steps) {
  const own = steps.filter((each) => each.stage === stage),
    last = own.at(-1),
    where = `${stage}, row ${row + 1}, column ${column + 1}`;
  if (!last || row >= last.grid[0] || column >= last.grid[1]) return where;
  const i = row * last.grid[1] + column,
    bytes = atob(last.codes),
    code = bytes.charCodeAt(2 * i) + 256 * bytes.charCodeAt(2 * i + 1);
  const first = own.find((each) => unpack(each.known, each.grid[0] * each.grid[1])[i]);
  return `${where}: code ${code}${first ? `, decided at step ${first.step} of ${first.steps}` : ""}`;
}
