/** The list of users who are in the room, and their number. */

import { byId, element } from "../page.js";
import { avatar, nameNode } from "./elements.js";
import { Roster } from "./roster.js";

/** @typedef {import("../realtime.js").ServerMessages} ServerMessages */

const numberFormat = new Intl.NumberFormat();

export class People {
  #session;
  #roster = new Roster();
  #list = byId("people", HTMLElement);
  #count = byId("people-count", HTMLElement);

  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.#session = session;
  }

  /** @param {ServerMessages["serverRoomState"]} state */
  replace(state) {
    this.#roster.replace(state);
    this.#show();
  }

  clear() {
    this.#roster.clear();
    this.#show();
  }

  /**
   * @param {string} name
   * @param {boolean} isPresent
   * @returns {boolean} Whether that was a change.
   */
  set(name, isPresent) {
    const isChange = this.#roster.set(name, isPresent);
    if (isChange) this.#show();
    return isChange;
  }

  /** @param {ServerMessages["serverPresenceChanged"]} change */
  change(change) {
    this.#roster.change(change);
    this.#show();
  }

  #show() {
    const { names, count } = this.#roster;
    this.#count.textContent = count > 0 ? numberFormat.format(count) : "";
    const items = names
      .sort((a, b) => a.localeCompare(b))
      .map((name) => {
        const item = element("li", "", avatar(name), nameNode(name));
        if (name === this.#session.name) item.append(" ", element("span", "hint", "(you)"));
        return item;
      });
    const others = count - names.length;
    if (others > 0) items.push(element("li", "hint", `and ${numberFormat.format(others)} more`));
    this.#list.replaceChildren(...items);
  }
}
