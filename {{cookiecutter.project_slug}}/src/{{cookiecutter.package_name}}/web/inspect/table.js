/**
 * A table whose rows follow changing data: a row stays the same element while its key stays, so that a button keeps
 * the focus.
 *
 * SECURITY: text becomes text nodes, never markup.
 */

import { element } from "../page.js";

/** More rows than a reader looks through; the command `inspect` lists up to 1,000. */
const MAX_ROWS = 100;

/**
 * @typedef {object} Entry
 * @property {string} key
 * @property {(string | string[])[]} cells A text or a list of names for each column; the second is the heading of the row.
 * @property {() => Node[]} [actions] Creates the content of a last cell, once per row.
 */

export class Table {
  #body;
  #region;
  #hint;
  #table;
  /** @type {Map<string, Row>} */
  #rows = new Map();

  /** @param {HTMLTableElement} table In a region, followed by a text that is shown while there are no rows. */
  constructor(table) {
    this.#table = table;
    this.#body = table.tBodies[0];
    this.#region = /** @type {HTMLElement} */ (table.parentElement);
    this.#hint = /** @type {HTMLElement} */ (this.#region.nextElementSibling);
  }

  /** Show these rows, in this order; with `isAlone` without the column of the process. @param {Entry[]} entries @param {boolean} isAlone */
  show(entries, isAlone) {
    const focused = document.activeElement;
    const shown = entries.slice(0, MAX_ROWS);
    const rows = new Map(shown.map((entry) => [entry.key, this.#rows.get(entry.key) ?? new Row(entry)]));
    for (const [key, row] of this.#rows) if (!rows.has(key)) row.row.remove();
    this.#rows = rows;
    for (const [index, entry] of shown.entries()) {
      const row = /** @type {Row} */ (rows.get(entry.key));
      row.show(entry.cells);
      if (this.#body.rows[index] !== row.row) this.#body.insertBefore(row.row, this.#body.rows[index] ?? null);
    }
    this.#table.classList.toggle("one-process", isAlone);
    this.#region.hidden = shown.length === 0;
    this.#hint.hidden = shown.length > 0;
    if (focused instanceof HTMLElement && focused !== document.activeElement) this.#restoreFocus(focused);
  }

  /** Give the focus back to an element that was moved, or to the table if it was removed. @param {HTMLElement} focused */
  #restoreFocus(focused) {
    const place = this.#region.hidden ? document.querySelector("main") : this.#region;
    (focused.isConnected ? focused : place)?.focus({ preventScroll: true });
  }
}

class Row {
  row = element("tr", "");
  #cells;
  /** @type {string[]} */
  #shown = [];

  /** @param {Entry} entry */
  constructor(entry) {
    this.#cells = entry.cells.map((_, index) => {
      const cell = element(index === 1 ? "th" : "td", index === 0 ? "process" : "");
      if (index === 1) cell.setAttribute("scope", "row");
      return cell;
    });
    this.row.append(...this.#cells);
    if (entry.actions) this.row.append(element("td", "", ...entry.actions()));
  }

  /** @param {(string | string[])[]} cells */
  show(cells) {
    for (const [index, cell] of cells.entries()) {
      const text = JSON.stringify(cell);
      if (this.#shown[index] === text) continue;
      this.#shown[index] = text;
      this.#cells[index].replaceChildren(...(typeof cell === "string" ? [element("bdi", "", cell)] : names(cell)));
    }
  }
}

/** @param {string[]} list @returns {(Node | string)[]} */
function names(list) {
  return list.flatMap((name, index) => (index > 0 ? [", ", element("bdi", "", name)] : [element("bdi", "", name)]));
}
