/** Unsent texts of the composer: each belongs to a user and a room, and lasts as long as the tab. */

import { urlOf } from "../page.js";

const MAX_DRAFTS = 20;

export class Drafts {
  #key = `${urlOf("").pathname}.drafts`;
  /** The latest one last. @type {{ userId: string, room: string, text: string }[]} */
  #drafts = [];

  constructor() {
    try {
      const drafts = JSON.parse(sessionStorage.getItem(this.#key) ?? "[]");
      this.#drafts = drafts.filter((/** @type {any} */ draft) => typeof draft.text === "string");
    } catch {
      // Storage is forbidden here, or holds something else.
    }
  }

  /** @param {string} userId @param {string} room @returns {string} Empty without a draft. */
  get(userId, room) {
    return this.#drafts.find((draft) => draft.userId === userId && draft.room === room)?.text ?? "";
  }

  /** @param {string} userId @param {string} room @param {string} text */
  set(userId, room, text) {
    this.#drafts = this.#drafts.filter((draft) => draft.userId !== userId || draft.room !== room);
    if (text !== "") this.#drafts = [...this.#drafts, { userId, room, text }].slice(-MAX_DRAFTS);
    this.#store();
  }

  /** Forget the drafts of a user who has signed out. @param {string} userId */
  forget(userId) {
    this.#drafts = this.#drafts.filter((draft) => draft.userId !== userId);
    this.#store();
  }

  #store() {
    try {
      sessionStorage.setItem(this.#key, JSON.stringify(this.#drafts));
    } catch {
      // Storage is forbidden or full: the drafts last as long as the page.
    }
  }
}
