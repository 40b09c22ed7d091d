/** Typing indicators: of the other users, and of this one for the others. */

import { byId } from "../page.js";
import { shortNameNode } from "./elements.js";

const REPEAT_MS = 3_000;
const IDLE_MS = 4_000;
const EXPIRY_MS = 6_000; // Two repeats: one late or lost message does not make the line flicker.

/** Shows which other users are typing. */
export class TypingIndicator {
  #session;
  /** @type {Map<string, number>} The timer that ends each user's indication. */
  #timers = new Map();
  #line = byId("typing", HTMLElement);

  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.#session = session;
  }

  /** @param {string} user @param {boolean} isTyping */
  set(user, isTyping) {
    if (user === this.#session.name) return;
    clearTimeout(this.#timers.get(user));
    this.#timers.delete(user);
    if (isTyping) this.#timers.set(user, setTimeout(() => this.set(user, false), EXPIRY_MS));
    this.#show();
  }

  clear() {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.#show();
  }

  #show() {
    const [first, second, third, ...others] = [...this.#timers.keys()].map(shortNameNode);
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
