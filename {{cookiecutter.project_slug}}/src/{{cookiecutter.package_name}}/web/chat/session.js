/** The user's sign-in: the form, the account in the header, and which of the two is shown, form or chat. */

import { byId } from "../page.js";
import { onSubmit, showProblem } from "./elements.js";

/**
 * @typedef {object} SessionEvents
 * @property {() => void} onEnter The chat has replaced the form.
 * @property {() => void} onForm The form has replaced the chat.
 * @property {() => void} onSignOut The server has ended the session; the form follows.
 * @property {(problem: string) => void} onSignOutFailed
 */

const RETRY_MS = 3_000;

export class Session {
  #events;
  #name = /** @type {string | null} */ (null);
  #isExternal = false;
  #skipLink = byId("skip-link", HTMLAnchorElement);
  #account = byId("account", HTMLElement);
  #ownName = byId("own-name", HTMLElement);
  #signOutButton = byId("sign-out", HTMLButtonElement);
  #notice = byId("notice", HTMLElement);
  #signInSection = byId("sign-in", HTMLElement);
  #field = byId("name", HTMLInputElement);
  #fieldError = byId("name-error", HTMLElement);
  #chat = byId("chat", HTMLElement);

  /** @param {SessionEvents} events */
  constructor(events) {
    this.#events = events;
    onSubmit(byId("sign-in-form", HTMLFormElement), () => this.#signIn());
    this.#signOutButton.addEventListener("click", () => this.#signOut());
    this.#field.addEventListener("input", () => showProblem(this.#field, this.#fieldError, ""));
  }

  /** The user's name; null while it is unknown. */
  get name() {
    return this.#name;
  }

  /** Whether sessions come from an identity provider instead of this page's form. */
  get isExternal() {
    return this.#isExternal;
  }

  get isChatShown() {
    return !this.#chat.hidden;
  }

  /** Show the chat or the form, depending on the session that the browser has. */
  async start() {
    const response = await fetch("/session", { cache: "no-store" }).catch(() => null);
    if (response?.ok) {
      this.#name = (await response.json()).name;
      this.#showChat();
    } else if (response?.status === 401) {
      this.#showForm("");
    } else if (response?.status === 404) {
      this.#isExternal = true;
      this.#showChat();
    } else {
      this.#notice.textContent = "The server is not responding correctly. Retrying…";
      setTimeout(() => this.start(), RETRY_MS);
    }
  }

  /** Adopt the name under which the server knows the user. @param {string} name */
  rename(name) {
    this.#name = name;
    this.#showName();
  }

  /** Ask for another sign-in. */
  expire() {
    this.#showForm("Your session has ended. Please sign in again.");
  }

  async #signIn() {
    showProblem(this.#field, this.#fieldError, "");
    const response = await fetch("/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ name: this.#field.value.trim().normalize("NFC") }),
    }).catch(() => null);
    const answer = await response?.json().catch(() => null);
    if (response?.ok) {
      this.#name = answer.name;
      this.#showChat();
      return;
    }
    const problem = answer?.description ?? answer?.title ?? "The server is not responding. Please try again in a moment.";
    showProblem(this.#field, this.#fieldError, problem);
    this.#field.focus();
  }

  async #signOut() {
    const response = await fetch("/session", { method: "DELETE" }).catch(() => null);
    if (!response?.ok) {
      this.#events.onSignOutFailed("Signing out failed: the server is not responding.");
      return;
    }
    this.#events.onSignOut();
    this.#name = null;
    this.#showForm("");
  }

  /** @param {string} notice */
  #showForm(notice) {
    this.#notice.textContent = notice;
    this.#account.hidden = this.#chat.hidden = this.#skipLink.hidden = true;
    this.#signInSection.hidden = false;
    this.#field.value ||= this.#name ?? "";
    this.#events.onForm();
    this.#field.focus();
  }

  #showChat() {
    this.#notice.textContent = "";
    this.#signInSection.hidden = true;
    this.#chat.hidden = this.#skipLink.hidden = false;
    this.#signOutButton.hidden = this.#isExternal;
    this.#showName();
    this.#events.onEnter();
  }

  #showName() {
    this.#account.hidden = this.#name === null;
    this.#ownName.textContent = this.#name;
  }
}
