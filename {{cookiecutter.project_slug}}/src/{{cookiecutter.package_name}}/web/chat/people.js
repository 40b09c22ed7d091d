/** The list of users who are in the room, and their number. */

import { byId, element } from "../page.js";
import { avatar } from "./elements.js";
import { Roster } from "./roster.js";

/** @typedef {import("./names.js").Person} Person */
/** @typedef {import("../realtime.js").ServerMessages} ServerMessages */

const numberFormat = new Intl.NumberFormat();

export class People {
  #session;
  #names;
  #roster = new Roster();
  #list = byId("people", HTMLElement);
  #when = byId("people-when", HTMLElement);
  #count = byId("people-count", HTMLElement);

  /** @param {import("./session.js").Session} session @param {import("./names.js").Names} names */
  constructor(session, names) {
    this.#session = session;
    this.#names = names;
  }

  /** Whether the page's user is known to be the only one. */
  get isAlone() {
    return this.#roster.count === 1;
  }

  /** @param {ServerMessages["serverRoomState"]} state */
  replace(state) {
    this.#roster.replace(state);
    this.#setLastSeen(false);
    this.#show();
  }

  clear() {
    this.#roster.clear();
    this.#setLastSeen(false);
    this.#show();
  }

  /** The connection is lost: grey the users out until the server sends them again. */
  showLastSeen() {
    this.#setLastSeen(true);
  }

  /**
   * @param {Person} person
   * @param {boolean} isPresent
   * @returns {boolean} Whether that was a change.
   */
  set(person, isPresent) {
    const isChange = this.#roster.set(person, isPresent);
    if (isChange) this.#show();
    return isChange;
  }

  /** @param {import("./roster.js").PresenceChange} change */
  change(change) {
    this.#roster.change(change);
    this.#show();
  }

  /** @param {boolean} isLastSeen */
  #setLastSeen(isLastSeen) {
    this.#when.textContent = isLastSeen ? "Last seen here" : "Here now";
    this.#list.classList.toggle("last-seen", isLastSeen);
  }

  #show() {
    const { users, count } = this.#roster;
    this.#names.add(users);
    this.#count.textContent = count > 0 ? numberFormat.format(count) : "";
    const items = users
      .sort((a, b) => a.user.localeCompare(b.user) || (a.userId < b.userId ? -1 : 1))
      .map((person) => {
        const item = element("li", "", avatar(person.user), this.#names.node(person));
        if (person.userId === this.#session.user?.id) item.append(" ", element("span", "hint", "(you)"));
        return item;
      });
    const others = count - users.length;
    if (others > 0) items.push(element("li", "hint", `and ${numberFormat.format(others)} more`));
    this.#list.replaceChildren(...items);
  }
}
