/**
 * The messages that were under way when the page was reloaded or closed, so that the next page can name them. Their texts
 * last as long as the tab, and until the server has them.
 */

import { urlOf } from "../page.js";

/**
 * @typedef {object} LostOfRoom
 * @property {string} userId
 * @property {string} room
 * @property {number} count
 * @property {string[]} texts Of the first ones.
 */

const MAX_TEXTS = 20;
const MAX_BYTES = 16_384;

export class LostMessages {
  #key = `${urlOf("").pathname}.unconfirmed`;
  /** What an earlier page has left. @type {LostOfRoom | null} */
  #left = null;
  /** @type {LostOfRoom | null} */
  #current = null;

  constructor() {
    try {
      const left = JSON.parse(sessionStorage.getItem(this.#key) ?? "null");
      if (typeof left?.room === "string" && Array.isArray(left.texts)) this.#left = left;
    } catch {
      // Storage is forbidden here, or holds something else.
    }
    // A new tab gets a copy of the storage of a visible one, whose messages are not lost.
    addEventListener("pagehide", () => this.#store(this.#current));
    document.addEventListener("visibilitychange", () => this.#store(document.hidden ? this.#current : null));
  }

  /** Return what an earlier page has left of a user, once. @param {string} userId @returns {LostOfRoom | null} */
  take(userId) {
    const left = this.#left;
    this.#left = null;
    return left?.userId === userId ? left : null;
  }

  /** Keep the messages that are under way, in place of earlier ones. @param {string} userId @param {string} room @param {string[]} texts */
  keep(userId, room, texts) {
    this.#current = texts.length > 0 ? { userId, room, count: texts.length, texts: bounded(texts) } : null;
    if (document.hidden) this.#store(this.#current);
  }

  /** @param {LostOfRoom | null} messages */
  #store(messages) {
    try {
      if (messages === null) sessionStorage.removeItem(this.#key);
      else sessionStorage.setItem(this.#key, JSON.stringify(messages));
    } catch {
      // Storage is forbidden or full: the next page names none.
    }
  }
}

/** Return the first texts, as many as are kept. @param {string[]} texts */
function bounded(texts) {
  let bytes = 0;
  return texts.slice(0, MAX_TEXTS).filter((text) => (bytes += new TextEncoder().encode(text).length) <= MAX_BYTES);
}
