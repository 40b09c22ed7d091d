/** The users of a room, as far as the page knows them: their number, and at most 200 of them. */

/** @typedef {import("./names.js").Person} Person */
/** @typedef {import("../realtime.js").ServerMessages} ServerMessages */

/**
 * Users have joined and left a large room. The framework does not know the payloads of this service's joins and
 * leaves, so its own type leaves them open.
 *
 * @typedef {object} PresenceChange
 * @property {Person[]} joined
 * @property {Person[]} left
 * @property {number} count The number of users in the room now.
 * @property {number} [moreJoined]
 * @property {number} [moreLeft]
 * @property {Person[]} [users]
 */

const MAX_USERS = 200;

export class Roster {
  /** The page's user, who is in the room as long as the page is connected. @type {Person | null} */
  #own = null;
  /** @type {Map<string, Person>} */
  #users = new Map();
  #count = 0;

  get users() {
    return [...this.#users.values()];
  }

  /** The number of users, of whom some may not be in the list. */
  get count() {
    return this.#count;
  }

  /** @param {ServerMessages["serverRoomState"]} state The server of an earlier version sends no `count`. */
  replace({ users, you, count = users.length }) {
    this.#own = you;
    this.#setUsers(users);
    this.#setCount(count);
  }

  clear() {
    this.#own = null;
    this.#users.clear();
    this.#count = 0;
  }

  /**
   * A user has joined or left.
   *
   * @param {Person} person
   * @param {boolean} isPresent
   * @returns {boolean} Whether that was a change.
   */
  set(person, isPresent) {
    const isComplete = this.#users.size === this.#count;
    if (this.#users.has(person.userId) === isPresent && (isPresent || isComplete)) return false;
    if (isPresent) this.#add(person);
    else this.#users.delete(person.userId);
    this.#setCount(this.#count + (isPresent ? 1 : -1));
    return true;
  }

  /** @param {PresenceChange} change */
  change({ joined, left, count, users }) {
    if (users) {
      this.#setUsers(users);
    } else {
      for (const { userId } of left) if (userId !== this.#own?.userId) this.#users.delete(userId);
      for (const person of joined) this.#add(person);
    }
    this.#setCount(count);
  }

  /** @param {Person[]} users */
  #setUsers(users) {
    this.#users = new Map();
    if (this.#own) this.#add(this.#own);
    for (const person of users) this.#add(person);
  }

  /** @param {Person} person */
  #add(person) {
    if (this.#users.size < MAX_USERS || this.#users.has(person.userId)) this.#users.set(person.userId, person);
  }

  /** @param {number} count The server's number; it may be from before this page's user was counted. */
  #setCount(count) {
    this.#count = Math.max(count, this.#users.size);
  }
}
