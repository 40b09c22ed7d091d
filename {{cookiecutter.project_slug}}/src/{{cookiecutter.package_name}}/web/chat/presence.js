/** The note about users who have joined and left since the last message: one, however many they are. */

import { element } from "../page.js";
import { timeNode } from "./elements.js";

/** @typedef {import("./names.js").Person} Person */

/**
 * Users who have joined and left, by name and, in a large room, by number.
 *
 * @typedef {object} Presence
 * @property {Person[]} joined
 * @property {Person[]} left
 * @property {number} [moreJoined]
 * @property {number} [moreLeft]
 */

/** @typedef {"joined" | "left" | "joined and left" | "left and joined again"} Outcome */

const MAX_PEOPLE = 1_000; // Further ones are counted only.
const numberFormat = new Intl.NumberFormat();

export class PresenceNote {
  #names;
  /** What each user has done, in the order of the first time. @type {Map<string, { person: Person, wasHere: boolean, isHere: boolean }>} */
  #people = new Map();
  #more = { joined: 0, left: 0 };
  #text = element("p", "text");
  #meta = element("span", "meta");
  #entry = element("li", "system", this.#text, this.#meta);

  /** @param {import("./names.js").Names} names */
  constructor(names) {
    this.#names = names;
    this.#text.dir = "auto";
  }

  get entry() {
    return this.#entry;
  }

  /** @param {Presence} presence */
  add({ joined, left, moreJoined = 0, moreLeft = 0 }) {
    // A screen reader says who was first; the changes that follow may be several per second.
    if (this.#entry.isConnected) this.#entry.ariaLive = "off";
    this.#more.joined += moreJoined;
    this.#more.left += moreLeft;
    for (const person of joined) this.#set(person, true);
    for (const person of left) this.#set(person, false);
    this.#text.replaceChildren(...this.#sentence());
    this.#meta.replaceChildren(timeNode());
  }

  /** @param {Person} person @param {boolean} isHere */
  #set(person, isHere) {
    const wasHere = this.#people.get(person.userId)?.wasHere ?? !isHere;
    if (this.#people.has(person.userId) || this.#people.size < MAX_PEOPLE) {
      this.#people.set(person.userId, { person, wasHere, isHere });
    } else {
      this.#more[isHere ? "joined" : "left"] += 1;
    }
  }

  #sentence() {
    /** @type {Record<Outcome, Person[]>} */
    const groups = { joined: [], left: [], "joined and left": [], "left and joined again": [] };
    for (const { person, wasHere, isHere } of this.#people.values()) groups[outcomeOf(wasHere, isHere)].push(person);
    return [
      ...this.#part("joined", groups.joined, this.#more.joined),
      ...this.#part("left", groups.left, this.#more.left),
      ...this.#part("joined and left", groups["joined and left"], 0),
      ...this.#part("left and joined again", groups["left and joined again"], 0),
    ].slice(1);
  }

  /** @param {Outcome} outcome @param {Person[]} people @param {number} more @returns {(Node | string)[]} Begins with a comma. */
  #part(outcome, people, more) {
    const others = people.length + more - 1;
    const [first, second] = people;
    if (others < 0) return [];
    if (first === undefined) return [", ", `${counted(more, "user")} ${outcome}`];
    const name = this.#names.shortNode(first);
    if (others === 0) return [", ", name, ` ${outcome}`];
    if (others === 1 && second) return [", ", name, " and ", this.#names.shortNode(second), ` ${outcome}`];
    return [", ", name, ` and ${counted(others, "other")} ${outcome}`];
  }
}

/** @param {boolean} wasHere @param {boolean} isHere @returns {Outcome} */
function outcomeOf(wasHere, isHere) {
  if (wasHere) return isHere ? "left and joined again" : "left";
  return isHere ? "joined" : "joined and left";
}

/** @param {number} count @param {string} noun */
function counted(count, noun) {
  return `${numberFormat.format(count)} ${noun}${count === 1 ? "" : "s"}`;
}
