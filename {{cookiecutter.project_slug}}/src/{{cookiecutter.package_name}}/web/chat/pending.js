/** The messages of this user that the server has not sent back yet. */

import { button, byId } from "../page.js";

/**
 * `queued`: it waits for a connection; `sent`: it is on a connection, or waits for the answer to an earlier one;
 * `unconfirmed`: it may have arrived, and is not sent again; `refused`: it was not sent, or the server answered with an
 * error.
 *
 * @typedef {"queued" | "sent" | "unconfirmed" | "refused"} PendingState
 */

/**
 * How a message is sent.
 *
 * @typedef {{ type: keyof import("../realtime.js").ClientMessages, payload: any }} TextRequest
 */

/** @typedef {{ text: string, request: TextRequest, state: PendingState, isAccepted: boolean, entry: HTMLLIElement }} PendingMessage */

// The message itself usually arrives before the answer, and otherwise soon: from the room, or with the past.
const SHOWN_WITHIN_MS = 5_000;
const STATE_TEXTS = {
  queued: "Waiting for the connection",
  sent: "Sending…",
  unconfirmed: "Possibly not delivered",
  refused: "Not sent",
};

export class PendingMessages {
  #events;
  #onChange;
  /** @type {PendingMessage[]} */
  #messages = [];
  #list = byId("pending", HTMLElement);

  /**
   * @param {{ onSendAgain: (text: string, request: TextRequest) => boolean, onDiscarded: () => void }} events `onSendAgain` returns whether the message was accepted.
   * @param {(unaccepted: string[]) => void} onChange Called with the texts that the server has not accepted.
   */
  constructor(events, onChange) {
    this.#events = events;
    this.#onChange = onChange;
  }

  get count() {
    return this.#messages.length;
  }

  /** The messages that the server has not accepted: they are lost with this page, unless they have arrived. */
  get #unaccepted() {
    return this.#messages.filter(({ isAccepted }) => !isAccepted);
  }

  get unsent() {
    return this.#unaccepted.length;
  }

  /** Whether some of those may have arrived. */
  get isUncertain() {
    return this.#unaccepted.some(({ state }) => state === "sent" || state === "unconfirmed");
  }

  /** @param {HTMLLIElement} entry @param {string} text @param {TextRequest} request @param {PendingState} state @returns {PendingMessage} */
  add(entry, text, request, state) {
    const message = { text, request, state, isAccepted: false, entry };
    this.#messages.push(message);
    this.#list.append(entry);
    this.#setState(message, state);
    return message;
  }

  /** The server has accepted a message. @param {PendingMessage} message */
  accept(message) {
    message.isAccepted = true;
    this.#report();
    setTimeout(() => this.#drop(message), SHOWN_WITHIN_MS);
  }

  /** @param {PendingMessage} message @param {PendingState} state */
  fail(message, state) {
    if (this.#messages.includes(message)) this.#setState(message, state);
  }

  /** @param {PendingState} from @param {PendingState} to */
  move(from, to) {
    for (const message of this.#messages) if (message.state === from) this.#setState(message, to);
  }

  /** The server has a message with this text. @param {string} text @param {PendingState[]} states Of which it is one. */
  confirm(text, states) {
    this.#drop(this.#messages.find((each) => states.includes(each.state) && each.text.trim() === text.trim()));
  }

  clear() {
    this.#messages = [];
    this.#list.replaceChildren();
    this.#list.hidden = true;
    this.#report();
  }

  #report() {
    this.#onChange(this.#unaccepted.filter(({ state }) => state !== "refused").map(({ text }) => text));
  }

  /** @param {PendingMessage} message @param {PendingState} state */
  #setState(message, state) {
    message.state = state;
    const meta = message.entry.querySelector(".meta");
    meta?.replaceChildren(STATE_TEXTS[state]);
    if (state === "unconfirmed" || state === "refused") {
      meta?.append(
        button("Send again", "link", () => this.#events.onSendAgain(message.text, message.request) && this.#drop(message)),
        button("Discard", "link", () => {
          this.#drop(message);
          this.#events.onDiscarded();
        }),
      );
    }
    this.#list.hidden = false;
    this.#report();
  }

  /** @param {PendingMessage | undefined} message */
  #drop(message) {
    if (message?.entry.contains(document.activeElement)) byId("conversation", HTMLElement).focus();
    this.#messages = this.#messages.filter((other) => other !== message);
    message?.entry.remove();
    this.#list.hidden = this.#messages.length === 0;
    this.#report();
  }
}
