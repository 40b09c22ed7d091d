/** The user's session: the sign-in form, the account in the header, and which of the two is shown, form or chat. */

import { Account } from "../account.js";
import { byId, urlOf } from "../page.js";
import { onSubmit, showProblem } from "./elements.js";

/** @typedef {import("../account.js").User} User */

/**
 * @typedef {object} SessionEvents
 * @property {() => void} onEnter The chat is shown, with a user.
 * @property {() => void} onForm The form has replaced the chat.
 * @property {(user: User) => void} onLeave The user has signed out, or another user has signed in: nothing of this user continues.
 * @property {(problem: string) => void} onSignOutFailed
 */

const RETRY_MS = 3_000;
const ENDED = "Your session has ended. Please sign in again.";
const ENDED_ELSEWHERE = "You have signed out in another tab.";

export class Session {
  #events;
  #account = new Account();
  #isSigningOut = false;
  /** Tells the other tabs which user the browser's cookie has. */
  #tabs = new BroadcastChannel(urlOf("session").pathname);
  #skipLink = byId("skip-link", HTMLAnchorElement);
  #header = byId("account", HTMLElement);
  #ownName = byId("own-name", HTMLElement);
  #menu = byId("account-menu", HTMLDetailsElement);
  #notice = byId("notice", HTMLElement);
  #signInSection = byId("sign-in", HTMLElement);
  #form = byId("sign-in-form", HTMLFormElement);
  #field = byId("name", HTMLInputElement);
  #fieldError = byId("name-error", HTMLElement);
  #providerButton = byId("provider-sign-in", HTMLButtonElement);
  #chat = byId("chat", HTMLElement);

  /** @param {SessionEvents} events */
  constructor(events) {
    this.#events = events;
    onSubmit(this.#form, () => this.#signIn());
    this.#field.addEventListener("input", () => showProblem(this.#field, this.#fieldError, ""));
    this.#providerButton.addEventListener("click", () => {
      location.assign(urlOf(`login?next=${encodeURIComponent(location.hash)}`));
    });
    byId("sign-out", HTMLButtonElement).addEventListener("click", () => this.#signOut(false));
    byId("sign-out-everywhere", HTMLButtonElement).addEventListener("click", () => this.#signOut(true));
    this.#menu.addEventListener("focusout", ({ relatedTarget }) => {
      if (!(relatedTarget instanceof Node && this.#menu.contains(relatedTarget))) this.#menu.open = false;
    });
    this.#menu.addEventListener("keydown", ({ key }) => {
      if (key !== "Escape") return;
      this.#menu.open = false;
      this.#menu.querySelector("summary")?.focus();
    });
    this.#tabs.addEventListener("message", ({ data }) => this.#follow(data));
    // A page from the browser's cache has received nothing from the other tabs meanwhile.
    addEventListener("pageshow", ({ persisted }) => persisted && !this.#account.isPerTab && this.recheck());
  }

  /** The signed-in user; null without one. */
  get user() {
    return this.#account.user;
  }

  get isChatShown() {
    return !this.#chat.hidden;
  }

  /** The options for connections of this user. */
  get connectionOptions() {
    return this.#account.connectionOptions;
  }

  /** Show the chat or the form, depending on the session that the tab or the browser has. */
  async start() {
    const wasPerTab = this.#account.isPerTab;
    if (!(await this.#account.load())) {
      this.#notice.textContent = "The server is not responding correctly. Retrying…";
      setTimeout(() => this.start(), RETRY_MS);
    } else if (this.user === null) {
      this.#showForm(wasPerTab ? ENDED : "");
    } else {
      this.#showChat();
    }
  }

  /** Adopt the name under which the server knows the user. @param {string} name */
  rename(name) {
    this.#account.rename(name);
    this.#ownName.textContent = name;
  }

  /**
   * Ask the service who is signed in, after it has refused this user: show the form, or the chat of another user.
   *
   * @returns {Promise<boolean>} Whether the user is still signed in, or the service cannot tell for now.
   */
  async recheck() {
    const before = this.user;
    if (!(await this.#account.load())) return this.user !== null;
    // The form is shown already, or will be: the server ends the connections before it has answered a sign-out.
    if (this.user === null && (this.#isSigningOut || !this.isChatShown)) return false;
    if (this.user !== null && this.user.id === before?.id) return true;
    if (before && this.user) this.#events.onLeave(before);
    if (this.user === null) this.#showForm(ENDED);
    else this.#showChat();
    return false;
  }

  /** Another tab has signed in or out. @param {{ userId: string | null }} of The browser's user. */
  #follow({ userId }) {
    const before = this.user;
    if (this.#account.isPerTab || (userId !== null && userId === before?.id)) return;
    this.#account.forget();
    if (before) this.#events.onLeave(before);
    if (before || this.#notice.textContent === ENDED) this.#showForm(userId === null ? ENDED_ELSEWHERE : "");
    if (userId !== null) this.start();
  }

  async #signIn() {
    showProblem(this.#field, this.#fieldError, "");
    const name = this.#field.value.trim().normalize("NFC");
    const problem = name === "" ? "Enter a name." : await this.#account.signIn(name);
    if (problem === "") {
      this.#showChat();
      return;
    }
    showProblem(this.#field, this.#fieldError, problem);
    this.#field.focus();
  }

  /** @param {boolean} everywhere */
  async #signOut(everywhere) {
    const [user, isPerTab] = [this.user, this.#account.isPerTab];
    this.#menu.open = false;
    this.#isSigningOut = true;
    const { isDone, logoutUrl } = await this.#account.signOut(everywhere);
    this.#isSigningOut = false;
    if (!isDone) {
      this.#events.onSignOutFailed("Signing out failed: the server is not responding.");
      return;
    }
    if (!isPerTab) this.#tabs.postMessage({ userId: null });
    if (user) this.#events.onLeave(user);
    this.#field.value = "";
    this.#showForm("");
    if (logoutUrl !== null) location.assign(logoutUrl);
  }

  /** @param {string} notice */
  #showForm(notice) {
    const { signInWay } = this.#account;
    this.#notice.textContent = notice;
    this.#header.hidden = this.#chat.hidden = this.#skipLink.hidden = true;
    this.#signInSection.hidden = false;
    this.#form.hidden = signInWay !== "name";
    byId("sign-in-provider", HTMLElement).hidden = signInWay !== "provider";
    byId("sign-in-none", HTMLElement).hidden = signInWay !== "none";
    this.#events.onForm();
    if (signInWay === "name") this.#field.focus();
    else if (signInWay === "provider") this.#providerButton.focus();
  }

  #showChat() {
    const { user } = this;
    if (user === null) return;
    if (!this.#account.isPerTab) this.#tabs.postMessage({ userId: user.id });
    this.#notice.textContent = "";
    this.#signInSection.hidden = true;
    this.#header.hidden = this.#chat.hidden = this.#skipLink.hidden = false;
    this.#ownName.textContent = this.#field.value = user.name;
    this.#events.onEnter();
  }
}
