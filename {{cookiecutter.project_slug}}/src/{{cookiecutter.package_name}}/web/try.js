/** Tries the messages of one channel over a live connection. Loaded outside production only. */

import { button, element } from "./page.js";
import { connect } from "./realtime.js";

/** @typedef {import("./docs.js").Channel} Channel */
/** @typedef {import("./docs.js").Message} Message */

const MAX_LOG_ENTRIES = 100;

/** Who is signed in; one for all channels. */
export class Session {
  #name = input("Your name", "");
  #error = element("p", "field-error");
  isSignedIn = false;
  panel = element("section", "session");

  constructor() {
    this.#error.setAttribute("role", "alert");
    this.panel.setAttribute("aria-label", "Sign-in");
    this.#show();
  }

  /** Asks who has to sign in before anything can be sent. */
  ask() {
    this.#error.textContent = "Sign in to try messages.";
    this.#name.control.focus();
  }

  async #show() {
    const response = await fetch("/session").catch(() => null);
    this.isSignedIn = response?.ok ?? false;
    if (response?.ok) {
      const { name } = await response.json();
      this.panel.replaceChildren(element("p", "", "You are signed in as ", element("bdi", "", name), "."));
      return;
    }
    const submit = element("button", "quiet", "Sign in");
    const form = element("form", "try-fields", this.#name.label, submit);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#enter();
    });
    this.panel.replaceChildren(element("p", "", "Sign in to try messages."), form, this.#error);
  }

  async #enter() {
    const response = await fetch("/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ name: this.#name.control.value }),
    }).catch(() => null);
    if (response?.ok) {
      this.#error.textContent = "";
      await this.#show();
      return;
    }
    const answer = await response?.json().catch(() => null);
    this.#error.textContent = answer?.description ?? "The service does not answer. Please try again in a moment.";
  }
}

/** The panel of one channel, and a form for each message that it takes. */
export class Trial {
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
    const connects = button("Connect", "quiet", () => this.#connect());
    const disconnects = button("Disconnect", "quiet", () => this.#client?.close());
    this.panel = element(
      "section",
      "try",
      element("h3", "", "Try it"),
      element("div", "try-fields", ...fields, connects, disconnects),
      this.#state,
      this.#log,
    );
  }

  /** A form that sends a message like the example. @param {Message} message */
  form(message) {
    const area = element("textarea", "try-message");
    area.value = JSON.stringify(message.example, null, 2);
    area.rows = area.value.split("\n").length;
    area.spellcheck = false;
    const problem = element("p", "field-error");
    problem.setAttribute("role", "alert");
    const done = element("span", "hint");
    done.setAttribute("role", "status");
    const send = button("Send", "primary", () => {
      const { sent, why } = this.#send(area.value);
      problem.textContent = why;
      done.replaceChildren(...(sent ? ["Sent: ", toLog.cloneNode(true)] : []));
    });
    const toLog = element("a", "", "what has come");
    toLog.setAttribute("href", `#${this.#log.id}`);
    send.setAttribute("aria-label", `Send ${message.name}`);
    return element("details", "try-form", element("summary", "", "Try it"), label(`${message.name} as JSON`, area), problem, send, " ", done);
  }

  /** @param {string} text What is wrong, if anything, is said in words. */
  #send(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch (error) {
      return { sent: false, why: `This is not JSON: ${error instanceof Error ? error.message : error}` };
    }
    if (typeof message?.type !== "string") return { sent: false, why: 'A message needs a "type".' };
    if (!this.#connect()) return { sent: false, why: "" };
    if (!this.#client?.send(message.type, message.payload)) return { sent: false, why: "Too much waits already: try again later." };
    this.#note("You sent", message);
    return { sent: true, why: "" };
  }

  /** Connects where it is not connected. @returns {boolean} Whether it can. */
  #connect() {
    if (!this.#session.isSignedIn) {
      this.#session.ask();
      return false;
    }
    if (this.#client && this.#client.state !== "closed") return true;
    const path = this.#channel.address.replace(/{(\w+)}/g, (_, name) =>
      encodeURIComponent(this.#parameters.get(name)?.value ?? ""),
    );
    /** @type {import("./realtime.js").RealtimeClient<any, any>} */
    const client = connect(path);
    this.#client = client;
    client.onStatus((status) => client === this.#client && this.#showStatus(status));
    for (const { name, isJson } of this.#channel.sent) {
      if (isJson) client.on(name, (payload) => this.#note("You got", { type: name, payload }));
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
      waiting: `Connection lost${meaning}. It is tried again soon.`,
      closed: code === 1000 ? "Not connected." : `Closed${meaning}.`,
    }[state];
    this.#state.dataset.state = state;
  }

  /** @param {string} direction @param {unknown} message */
  #note(direction, message) {
    const time = new Date().toLocaleTimeString();
    const text = element("pre", "", element("code", "", JSON.stringify(message, null, 2)));
    this.#entries.append(element("li", direction === "You sent" ? "sent" : "got", element("span", "meta", `${direction}, ${time}`), text));
    while (this.#entries.childElementCount > MAX_LOG_ENTRIES) this.#entries.firstElementChild?.remove();
    this.#log.scrollTop = this.#log.scrollHeight;
  }
}

/** @param {string} words @param {HTMLElement} control */
function label(words, control) {
  return element("label", "", element("span", "", words), control);
}

/** @param {string} words @param {string} value */
function input(words, value) {
  const control = element("input", "");
  control.value = value;
  control.autocomplete = "off";
  control.spellcheck = false;
  return { control, label: label(words, control) };
}
