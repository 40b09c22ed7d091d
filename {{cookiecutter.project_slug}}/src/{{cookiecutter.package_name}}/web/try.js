/** The "Try it" panels of /docs: send messages over a live connection. Loaded outside production only. */

import { Account } from "./account.js";
import { button, element, urlOf } from "./page.js";
import { connect } from "./realtime.js";

/** @typedef {import("./docs.js").Channel} Channel */
/** @typedef {import("./docs.js").Message} Message */

const MAX_LOG_ENTRIES = 100;

/** The user's sign-in, shared by all channels. */
export class Session {
  #account = new Account();
  #name = input("Your name", "");
  #error = element("p", "field-error");
  panel = element("section", "session");

  constructor() {
    this.#error.setAttribute("role", "alert");
    this.panel.setAttribute("aria-label", "Sign-in");
    this.#show();
  }

  get isSignedIn() {
    return this.#account.user !== null;
  }

  /** The options for connections of this user. */
  get connectionOptions() {
    return this.#account.connectionOptions;
  }

  /** Ask the user to sign in first. */
  prompt() {
    this.#error.textContent = "Sign in to try messages.";
    this.#name.control.focus();
  }

  async #show() {
    await this.#account.load();
    const { user, signInWay } = this.#account;
    if (user) {
      this.panel.replaceChildren(element("p", "", "You are signed in as ", element("bdi", "", user.name), "."));
      return;
    }
    if (signInWay !== "name") {
      const link = element("a", "", "Sign in");
      link.href = urlOf("./").href;
      this.panel.replaceChildren(element("p", "", link, " to try messages."), this.#error);
      return;
    }
    const submit = element("button", "quiet", "Sign in");
    const form = element("form", "try-fields", this.#name.label, submit);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#signIn();
    });
    this.panel.replaceChildren(element("p", "", "Sign in to try messages."), form, this.#error);
  }

  async #signIn() {
    const problem = await this.#account.signIn(this.#name.control.value);
    this.#error.textContent = problem;
    if (problem === "") await this.#show();
  }
}

/** A connection to one channel: its parameters, its state, a log, and a form for each message to send. */
export class TryPanel {
  #channel;
  #session;
  #state = element("p", "try-state", "Not connected.");
  #entries = element("ol", "");
  #log = element("div", "try-log", this.#entries);
  /** @type {Map<string, HTMLInputElement>} */
  #parameters = new Map();
  /** @type {import("./realtime.js").RealtimeClient<any, any> | null} */
  #client = null;

  /** @param {Channel} channel @param {Session} session */
  constructor(channel, session) {
    this.#channel = channel;
    this.#session = session;
    this.#state.setAttribute("role", "status");
    this.#log.setAttribute("role", "log");
    this.#log.setAttribute("aria-label", `Messages of ${channel.title}`);
    this.#log.id = `${channel.name}-log`;
    this.#log.tabIndex = 0;
    const fields = Object.entries(channel.parameters).map(([name, parameter]) => {
      const field = input(name, parameter.examples?.[0] ?? "");
      field.control.addEventListener("input", () => this.#client?.close());
      this.#parameters.set(name, field.control);
      return field.label;
    });
    const connectButton = button("Connect", "quiet", () => this.#connect());
    const disconnectButton = button("Disconnect", "quiet", () => this.#client?.close());
    this.panel = element(
      "section",
      "try",
      element("h3", "", "Try it"),
      element("div", "try-fields", ...fields, connectButton, disconnectButton),
      this.#state,
      this.#log,
    );
  }

  /** Create a form that sends a message, filled in with the example. @param {Message} message */
  form(message) {
    const area = element("textarea", "try-message");
    area.value = JSON.stringify(message.example, null, 2);
    area.rows = area.value.split("\n").length;
    area.spellcheck = false;
    const problem = element("p", "field-error");
    problem.setAttribute("role", "alert");
    const status = element("span", "hint");
    status.setAttribute("role", "status");
    const logLink = element("a", "", "show the log");
    logLink.setAttribute("href", `#${this.#log.id}`);
    const send = button("Send", "primary", () => {
      const result = this.#send(area.value);
      problem.textContent = result.problem;
      status.replaceChildren(...(result.isSent ? ["Sent, ", logLink.cloneNode(true)] : []));
    });
    send.setAttribute("aria-label", `Send ${message.name}`);
    const field = label(`${message.name} as JSON`, area);
    return element("details", "try-form", element("summary", "", "Try it"), field, problem, send, " ", status);
  }

  /** @param {string} text */
  #send(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch (error) {
      return { isSent: false, problem: `This is not valid JSON: ${error instanceof Error ? error.message : error}` };
    }
    if (typeof message?.type !== "string") return { isSent: false, problem: 'A message needs a "type".' };
    if (!this.#connect()) return { isSent: false, problem: "" };
    if (!this.#client?.send(message.type, message.payload)) {
      return { isSent: false, problem: "Too many messages are queued. Try again later." };
    }
    this.#addEntry("You sent", message);
    return { isSent: true, problem: "" };
  }

  /** Connect, unless connected. @returns {boolean} Whether the user is signed in, which it requires. */
  #connect() {
    if (!this.#session.isSignedIn) {
      this.#session.prompt();
      return false;
    }
    if (this.#client && this.#client.state !== "closed") return true;
    const path = this.#channel.address.replace(/{(\w+)}/g, (_, name) =>
      encodeURIComponent(this.#parameters.get(name)?.value ?? ""),
    );
    /** @type {import("./realtime.js").RealtimeClient<any, any>} */
    const client = connect(urlOf(path), this.#session.connectionOptions);
    this.#client = client;
    client.onStatus((status) => client === this.#client && this.#showStatus(status));
    for (const { name, isJson } of this.#channel.sent) {
      if (isJson) client.on(name, (payload) => this.#addEntry("You received", { type: name, payload }));
    }
    this.#showStatus(client.status);
    return true;
  }

  /** @param {import("./realtime.js").ConnectionStatus} status */
  #showStatus({ state, code, reason }) {
    const meaning = code === null ? "" : ` (${code}: ${this.#channel.closeCodes[code] ?? (reason || "no reason given")})`;
    this.#state.textContent = {
      connecting: "Connecting…",
      open: "Connected.",
      waiting: `Connection lost${meaning}. Reconnecting soon.`,
      closed: code === 1000 ? "Not connected." : `Closed${meaning}.`,
    }[state];
    this.#state.dataset.state = state;
  }

  /** @param {"You sent" | "You received"} direction @param {unknown} message */
  #addEntry(direction, message) {
    const time = new Date().toLocaleTimeString();
    const text = element("pre", "", element("code", "", JSON.stringify(message, null, 2)));
    const meta = element("span", "meta", `${direction}, ${time}`);
    this.#entries.append(element("li", direction === "You sent" ? "sent" : "received", meta, text));
    while (this.#entries.childElementCount > MAX_LOG_ENTRIES) this.#entries.firstElementChild?.remove();
    this.#log.scrollTop = this.#log.scrollHeight;
  }
}

/** @param {string} text @param {HTMLElement} control */
function label(text, control) {
  return element("label", "", element("span", "", text), control);
}

/** @param {string} name @param {string} value */
function input(name, value) {
  const control = element("input", "");
  control.value = value;
  control.autocomplete = "off";
  control.spellcheck = false;
  return { control, label: label(name, control) };
}
