/** Typing indicators: of the other users, and of this one for the others. */

import { byId } from "../page.js";

/** @typedef {import("./names.js").Person} Person */

const REPEAT_MS = 3_000;
const IDLE_MS = 4_000;
const EXPIRY_MS = 6_000; // Two repeats: one late or lost message does not make the line flicker.

/** Shows which other users are typing. */
export class TypingIndicator {
  #session;
  #names;
  /** Each typing user by id, with the timer that ends the indication. @type {Map<string, { person: Person, timer: number }>} */
  #typing = new Map();
  #line = byId("typing", HTMLElement);

  /** @param {import("./session.js").Session} session @param {import("./names.js").Names} names */
  constructor(session, names) {
    this.#session = session;
    this.#names = names;
  }

  /** @param {Person} person @param {boolean} isTyping */
  set(person, isTyping) {
    const { userId } = person;
    if (userId === this.#session.user?.id) return;
    clearTimeout(this.#typing.get(userId)?.timer);
    this.#typing.delete(userId);
    if (isTyping) this.#typing.set(userId, { person, timer: setTimeout(() => this.set(person, false), EXPIRY_MS) });
    this.#show();
  }

  clear() {
    for (const { timer } of this.#typing.values()) clearTimeout(timer);
    this.#typing.clear();
    this.#show();
  }

  #show() {
    const [first, second, third, ...others] = [...this.#typing.values()].map(({ person }) => this.#names.shortNode(person));
    /** @type {(Node | string)[]} */
    let sentence = [];
    if (others.length > 0) sentence = [first, ", ", second, ` and ${others.length + 1} others are typing…`];
    else if (third) sentence = [first, ", ", second, " and ", third, " are typing…"];
    else if (second) sentence = [first, " and ", second, " are typing…"];
    else if (first) sentence = [first, " is typing…"];
    this.#line.replaceChildren(...sentence);
  }
}

/** Sends the server a notification when this user starts and stops typing. */
export class TypingNotifier {
  #connection;
  #lastSentMs = -Infinity;
  #isSent = false;
  #idleTimer = 0;

  /** @param {import("./connection.js").Connection} connection */
  constructor(connection) {
    this.#connection = connection;
  }

  /** The user has edited the message. @param {string} text */
  update(text) {
    clearTimeout(this.#idleTimer);
    if (text.trim() === "") {
      this.stop();
      return;
    }
    this.#idleTimer = setTimeout(() => this.stop(), IDLE_MS);
    // A notification is useful at once or not at all, so it is never queued.
    const { client } = this.#connection;
    if (client?.state !== "open" || performance.now() - this.#lastSentMs < REPEAT_MS) return;
    this.#isSent = client.send("clientStartTyping");
    this.#lastSentMs = performance.now();
  }

  stop() {
    const { client } = this.#connection;
    clearTimeout(this.#idleTimer);
    if (this.#isSent && client?.state === "open") client.send("clientStopTyping");
    this.#isSent = false;
    this.#lastSentMs = -Infinity;
  }

  /** The room is left, which ends the indication there. */
  reset() {
    clearTimeout(this.#idleTimer);
    this.#isSent = false;
  }
}
