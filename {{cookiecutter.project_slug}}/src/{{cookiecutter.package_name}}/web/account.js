/**
 * The user's sign-in, as the service's `/session` has it.
 *
 * A session of an identity provider is a cookie, which all tabs of the browser share. A sign-in by name, for
 * development, belongs to one tab: its token is in `sessionStorage` and in the header of requests, and each
 * handshake gets a one-time ticket. Two tabs can be two users in that way.
 */

import { urlOf } from "./page.js";

/**
 * @typedef {object} User
 * @property {string} id The key of the user.
 * @property {string} name
 * @property {string[]} roles
 */

/**
 * How people sign in: by name in a form, at an identity provider, or not at all.
 *
 * @typedef {"name" | "provider" | "none"} SignInWay
 */

const NO_ANSWER = "The server is not responding. Please try again in a moment.";

export class Account {
  #user = /** @type {User | null} */ (null);
  #signInWay = /** @type {SignInWay} */ ("name");
  /** Other services may be on the same origin, below other paths. */
  #key = `${urlOf("session").pathname}.token`;
  #token = /** @type {string | null} */ (null);

  constructor() {
    try {
      this.#token = sessionStorage.getItem(this.#key);
    } catch {
      // Storage is forbidden here: a reload asks for the name again.
    }
  }

  /** The signed-in user; null without one. */
  get user() {
    return this.#user;
  }

  get signInWay() {
    return this.#signInWay;
  }

  /** Whether the sign-in belongs to this tab only. */
  get isPerTab() {
    return this.#token !== null;
  }

  /** Ask the service for the user. @returns {Promise<boolean>} Whether it has answered; otherwise nothing has changed. */
  async load() {
    const token = this.#token;
    const response = await this.#request("GET", "session");
    const answer = response?.ok ? await response.json().catch(() => null) : null;
    if (answer === null || token !== this.#token) return false;
    this.#user = answer.user;
    this.#signInWay = answer.signIn;
    if (this.#user === null) this.#keepToken(null);
    return true;
  }

  /** Sign in by name, in this tab. @param {string} name @returns {Promise<string>} What went wrong; empty if nothing did. */
  async signIn(name) {
    const response = await this.#request("POST", "session", { name });
    const answer = await response?.json().catch(() => null);
    if (!response?.ok || !answer?.user) return answer?.description ?? answer?.title ?? NO_ANSWER;
    this.#user = answer.user;
    this.#keepToken(answer.token);
    return "";
  }

  /**
   * End this session, or all sessions of the user.
   *
   * @param {boolean} everywhere
   * @returns {Promise<{ isDone: boolean, logoutUrl: string | null }>} `logoutUrl`: the page of the provider that signs out there, too.
   */
  async signOut(everywhere) {
    const response = await this.#request("DELETE", everywhere ? "session?everywhere=true" : "session");
    if (!response?.ok) return { isDone: false, logoutUrl: null };
    const answer = await response.json().catch(() => null);
    this.forget();
    return { isDone: true, logoutUrl: answer?.logoutUrl ?? null };
  }

  /** Forget the user, whose session has ended. */
  forget() {
    this.#user = null;
    this.#keepToken(null);
  }

  /** The service has another name for the user. @param {string} name */
  rename(name) {
    if (this.#user) this.#user = { ...this.#user, name };
  }

  /** The options for connections of this user. @returns {import("./realtime.js").RealtimeOptions} */
  get connectionOptions() {
    const ticket = this.isPerTab ? () => this.#fetchTicket("session/ticket") : undefined;
    return { ticket, refresh: () => this.#fetchTicket("session/refresh") };
  }

  /** @param {string} path @returns {Promise<string | null>} Null if the session has ended. */
  async #fetchTicket(path) {
    const response = await this.#request("POST", path, {});
    if (response?.status === 401) return null;
    if (!response?.ok) throw new Error(`no ticket from ${path}: ${response?.status ?? "no answer"}`);
    const { ticket, token } = await response.json();
    if (token && this.isPerTab) this.#keepToken(token);
    return ticket;
  }

  /** @param {string | null} token */
  #keepToken(token) {
    this.#token = token;
    try {
      if (token === null) sessionStorage.removeItem(this.#key);
      else sessionStorage.setItem(this.#key, token);
    } catch {
      // See the constructor.
    }
  }

  /** @param {string} method @param {string} path @param {object} [body] @returns {Promise<Response | null>} Null without an answer. */
  #request(method, path, body) {
    const headers = new Headers();
    if (this.#token !== null) headers.set("Authorization", `Bearer ${this.#token}`);
    if (body) headers.set("Content-Type", "application/json");
    const options = { method, headers, body: body ? JSON.stringify(body) : null };
    return fetch(urlOf(path), { ...options, cache: "no-store" }).catch(() => null);
  }
}
