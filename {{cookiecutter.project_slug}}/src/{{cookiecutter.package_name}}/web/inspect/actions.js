/** What the page can do: announce, disconnect and ban, each after a confirmation. */

import { button, byId, urlOf } from "../page.js";

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {string} text
 * @property {string} accept The text of the button.
 * @property {boolean} [hasDuration]
 */

export class Actions {
  #dialog = byId("confirm", HTMLDialogElement);
  #title = byId("confirm-title", HTMLElement);
  #text = byId("confirm-text", HTMLElement);
  #durationLine = byId("duration-line", HTMLElement);
  #duration = byId("duration", HTMLSelectElement);
  #accept = byId("accept", HTMLButtonElement);
  #report;
  /** @type {() => Promise<void>} */
  #act = async () => {};

  /** @param {(text: string, isProblem: boolean) => void} report Shows the result of an action. */
  constructor(report) {
    this.#report = report;
    byId("cancel", HTMLButtonElement).addEventListener("click", () => this.#dialog.close());
    this.#accept.addEventListener("click", () => {
      this.#dialog.close();
      this.#act();
    });
    const form = byId("announce", HTMLFormElement);
    const input = byId("announcement", HTMLInputElement);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#announce(input);
    });
  }

  /** Return the buttons for a user. @param {string} user @returns {Node[]} */
  buttonsFor(user) {
    const disconnect = button("Disconnect", "link", () => this.#disconnect(user));
    const ban = button("Ban", "link", () => this.#ban(user));
    disconnect.setAttribute("aria-label", `Disconnect ${user}`);
    ban.setAttribute("aria-label", `Ban ${user}`);
    return [disconnect, ban];
  }

  /** @param {string} user */
  #disconnect(user) {
    const question = {
      title: `Disconnect ${user}?`,
      text: "All connections of the user are closed. The user may connect again.",
      accept: "Disconnect",
    };
    this.#ask(question, async () => {
      await this.#send({ command: "disconnect", user }, () => `${user} is disconnected.`);
    });
  }

  /** @param {string} user */
  #ban(user) {
    const question = {
      title: `Ban ${user}?`,
      text: "All connections of the user are closed, and new ones are refused. The command unban ends it.",
      accept: "Ban",
      hasDuration: true,
    };
    this.#ask(question, async () => {
      const seconds = Number(this.#duration.value);
      const until = this.#duration.selectedOptions[0].text;
      await this.#send({ command: "restrict", change: "ban", user, seconds }, () => `${user} is banned for ${until}.`);
    });
  }

  /** @param {HTMLInputElement} input */
  #announce(input) {
    const text = input.value.trim();
    if (text === "") return;
    this.#ask({ title: "Announce to all rooms?", text, accept: "Announce" }, async () => {
      const isSent = await this.#send({ command: "announce", text }, ({ rooms }) => `Announced to ${rooms} rooms.`);
      if (isSent) input.value = "";
    });
  }

  /** @param {Question} question @param {() => Promise<void>} act */
  #ask(question, act) {
    this.#act = act;
    this.#title.textContent = question.title;
    this.#text.textContent = question.text;
    this.#accept.textContent = question.accept;
    this.#durationLine.hidden = !question.hasDuration;
    this.#dialog.showModal();
  }

  /** Send an action; return whether it was carried out. @param {object} action @param {(answer: any) => string} done */
  async #send(action, done) {
    try {
      const response = await fetch(urlOf("inspect.json"), {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(action),
      });
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.description ?? answer.title);
      this.#report(done(answer), false);
      return true;
    } catch (error) {
      this.#report(`Not done: ${error instanceof Error ? error.message : error}`, true);
      return false;
    }
  }
}
