/** The users who are in the room. */

import { byId, element } from "../page.js";
import { avatar, nameNode } from "./elements.js";

export class People {
  #session;
  /** @type {Set<string>} */
  #names = new Set();
  #list = byId("people", HTMLElement);
  #count = byId("people-count", HTMLElement);

  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.#session = session;
  }

  /** @param {string[]} names */
  replace(names) {
    this.#names = new Set(names);
    this.#show();
  }

  clear() {
    this.replace([]);
  }

  /**
   * @param {string} name
   * @param {boolean} isPresent
   * @returns {boolean} Whether that was a change.
   */
  set(name, isPresent) {
    if (this.#names.has(name) === isPresent) return false;
    if (isPresent) this.#names.add(name);
    else this.#names.delete(name);
    this.#show();
    return true;
  }

  #show() {
    this.#count.textContent = this.#names.size > 0 ? String(this.#names.size) : "";
    const names = [...this.#names].sort((a, b) => a.localeCompare(b));
    this.#list.replaceChildren(
      ...names.map((name) => {
        const item = element("li", "", avatar(name), nameNode(name));
        if (name === this.#session.name) item.append(" ", element("span", "hint", "(you)"));
        return item;
      }),
    );
  }
}
