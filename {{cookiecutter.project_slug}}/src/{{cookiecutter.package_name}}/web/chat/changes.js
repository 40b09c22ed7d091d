/**
 * The changes of messages by their ids, so that a change applies once, in any order, and also to a message that is
 * loaded later: an answer with an older text may arrive after the change.
 */

/**
 * @typedef {object} Change
 * @property {number} revision It grows with each change of the message.
 * @property {string | null} text The new text; null if the message is deleted.
 */

const MAX_CHANGES = 1_000;

export class Changes {
  /** The latest change of each message; the oldest one first. @type {Map<string, Change>} */
  #latest = new Map();

  /**
   * Remember a change.
   *
   * @param {string} messageId
   * @param {Change} change
   * @returns {boolean} Whether it is later than the one that is known.
   */
  add(messageId, change) {
    const known = this.#latest.get(messageId);
    if (known && known.revision >= change.revision) return false;
    this.#latest.delete(messageId);
    this.#latest.set(messageId, change);
    for (const oldest of this.#latest.keys()) {
      if (this.#latest.size <= MAX_CHANGES) break;
      this.#latest.delete(oldest);
    }
    return true;
  }

  /** The change of a message after a revision of it. @param {string} messageId @param {number} revision @returns {Change | undefined} */
  after(messageId, revision) {
    const change = this.#latest.get(messageId);
    return change && change.revision > revision ? change : undefined;
  }

  clear() {
    this.#latest.clear();
  }
}
