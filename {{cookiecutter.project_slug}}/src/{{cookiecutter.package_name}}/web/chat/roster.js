/** The users of a room, as far as the page knows them: their number, and at most 200 names. */

/** @typedef {import("../realtime.js").ServerMessages} ServerMessages */

const MAX_NAMES = 200;

export class Roster {
  /** The name of the page's user, who is in the room as long as the page is connected. */
  #own = "";
  /** @type {Set<string>} */
  #names = new Set();
  #count = 0;

  get names() {
    return [...this.#names];
  }

  /** The number of users, of whom some may have no name in the list. */
  get count() {
    return this.#count;
  }

  /** @param {ServerMessages["serverRoomState"]} state The server of an earlier version sends no `count`. */
  replace({ users, you, count = users.length }) {
    this.#own = you;
    this.#setNames(users);
    this.#setCount(count);
  }

  clear() {
    this.#own = "";
    this.#names.clear();
    this.#count = 0;
  }

  /**
   * A user has joined or left.
   *
   * @param {string} name
   * @param {boolean} isPresent
   * @returns {boolean} Whether that was a change.
   */
  set(name, isPresent) {
    const isComplete = this.#names.size === this.#count;
    if (this.#names.has(name) === isPresent && (isPresent || isComplete)) return false;
    if (isPresent) this.#add(name);
    else this.#names.delete(name);
    this.#setCount(this.#count + (isPresent ? 1 : -1));
    return true;
  }

  /**
   * Users have joined and left a large room.
   *
   * @param {ServerMessages["serverPresenceChanged"]} change
   */
  change({ joined, left, count, users }) {
    if (users) {
      this.#setNames(users);
    } else {
      for (const name of left) if (name !== this.#own) this.#names.delete(name);
      for (const name of joined) this.#add(name);
    }
    this.#setCount(count);
  }

  /** @param {string[]} names */
  #setNames(names) {
    this.#names = new Set();
    if (this.#own) this.#names.add(this.#own);
    for (const name of names) this.#add(name);
  }

  /** @param {string} name */
  #add(name) {
    if (this.#names.size < MAX_NAMES) this.#names.add(name);
  }

  /** @param {number} count The server's number; it may be from before this page's user was counted. */
  #setCount(count) {
    this.#count = Math.max(count, this.#names.size);
  }
}
