/**
 * The names of users as the page shows them. The id is the key of a user; several users may have one name, and
 * a name may read as the page's own word. Both are shown with a part of the id: "You (5f7c)".
 */

import { element } from "../page.js";
import { shortName } from "./elements.js";

/**
 * A user as messages have it.
 *
 * @typedef {object} Person
 * @property {string} user The name.
 * @property {string} userId
 */

const RESERVED = new Set(["you", "system", "announcement"]);
const PART_CHARACTERS = 4;
const MAX_USERS = 2_000;

export class Names {
  /** The name of each user seen in this room, as it is compared; the oldest one first. @type {Map<string, string>} */
  #nameOf = new Map();
  /** @type {Map<string, Set<string>>} */
  #idsOf = new Map();

  clear() {
    this.#nameOf.clear();
    this.#idsOf.clear();
  }

  /** Note users, and tell all users of one name apart from now on. @param {Person[]} people */
  add(people) {
    const shared = new Set();
    for (const { user, userId } of people) {
      const name = comparable(user);
      if (this.#nameOf.get(userId) === name) continue;
      this.#forget(userId);
      this.#nameOf.set(userId, name);
      const ids = this.#idsOf.get(name) ?? new Set();
      this.#idsOf.set(name, ids.add(userId));
      if (ids.size > 1) shared.add(name);
    }
    for (const oldest of this.#nameOf.keys()) {
      if (this.#nameOf.size <= MAX_USERS) break;
      this.#forget(oldest);
    }
    if (shared.size === 0) return;
    for (const node of document.querySelectorAll("bdi[data-user-id]")) {
      if (!(node instanceof HTMLElement)) continue;
      const { user = "", userId = "", short } = node.dataset;
      if (!shared.has(comparable(user))) continue;
      const label = this.#label({ user, userId }, short === "true");
      if (node.textContent !== label) node.textContent = label; // A screen reader reads out what is written again.
    }
  }

  /** A user's name, isolated so that right-to-left text does not reorder the sentence around it. @param {Person} person */
  node(person) {
    return this.#node(person, false);
  }

  /** A user's name within a sentence: isolated and shortened. @param {Person} person */
  shortNode(person) {
    return this.#node(person, true);
  }

  /** @param {Person} person @param {boolean} isShort */
  #node(person, isShort) {
    this.add([person]);
    const node = element("bdi", "", this.#label(person, isShort));
    Object.assign(node.dataset, { user: person.user, userId: person.userId, short: String(isShort) });
    return node;
  }

  /** @param {Person} person @param {boolean} isShort */
  #label({ user, userId }, isShort) {
    const shown = isShort ? shortName(user) : user;
    const name = comparable(user);
    const others = [...(this.#idsOf.get(name) ?? [])].filter((id) => id !== userId);
    if (others.length === 0 && !RESERVED.has(name)) return shown;
    return `${shown} (${partOf(userId, others)})`;
  }

  /** @param {string} userId */
  #forget(userId) {
    const name = this.#nameOf.get(userId) ?? "";
    this.#nameOf.delete(userId);
    const ids = this.#idsOf.get(name);
    ids?.delete(userId);
    if (ids?.size === 0) this.#idsOf.delete(name);
  }
}

/** Return what is equal for names that look the same: without case, width and invisible characters. @param {string} name */
function comparable(name) {
  return name.normalize("NFKC").replace(/\p{Cf}/gu, "").replace(/\s+/g, " ").trim().toLowerCase();
}

/** Return the shortest end of an id that none of the other ids has. @param {string} id @param {string[]} others */
function partOf(id, others) {
  const characters = [...id];
  for (let length = PART_CHARACTERS; length < characters.length; length += 1) {
    const part = characters.slice(-length).join("");
    if (!others.some((other) => other.endsWith(part))) return part;
  }
  return id;
}
