/** The connection to the current room: its client, its status line, and recovery after a loss. */

import { byId, setShown, urlOf } from "../page.js";
import { connect } from "../realtime.js";

/** @typedef {import("../realtime.js").RealtimeClient} RealtimeClient */
/** @typedef {import("../realtime.js").ConnectionStatus} ConnectionStatus */

/**
 * @typedef {object} ConnectionEvents
 * @property {(hasGap: boolean) => void} onOpen `hasGap`: it is a reconnection to a room without history.
 * @property {(isLost: boolean) => void} onInterrupted It is not open; `isLost`: it waits or has ended.
 * @property {(wasOpen: boolean, code: number | null, reason: string) => void} onEnd It has ended and is not retried.
 * @property {() => void} onMissing Messages are lost: the server no longer has them.
 * @property {() => void} onTryNow The user does not want to wait.
 */

const BANNED = /^You are banned until (\d\S+Z)\.$/;
// https://html.spec.whatwg.org/multipage/timers-and-user-prompts.html: a longer timeout fires at once.
const MAX_TIMER_MS = 2 ** 31 - 1;

const RESYNC_WITHIN_MS = 5_000; // At random: all pages of a room learn of a loss at once.

export class Connection {
  #events;
  #session;
  /** @type {RealtimeClient | null} */
  #client = null;
  /** Whether the conversation on the page has had a connection. */
  #wasOpen = false;
  /** Whether the current client has been connected. */
  #hasOpened = false;
  /** Whether this is a reconnection whose outcome of recovery has not arrived. */
  #isRecovering = false;
  /** Whether the room keeps messages for reconnecting clients. */
  #hasHistory = false;
  #countdownTimer = 0;
  #resyncTimer = 0;
  #banTimer = 0;
  #line = byId("connection", HTMLElement);
  #text = byId("connection-text", HTMLElement);
  #countdown = byId("countdown", HTMLElement);
  #tryNow = byId("try-now", HTMLButtonElement);
  #conversation = byId("conversation", HTMLElement);

  /** @param {import("./session.js").Session} session @param {ConnectionEvents} events */
  constructor(session, events) {
    this.#session = session;
    this.#events = events;
    this.#tryNow.addEventListener("click", events.onTryNow);
  }

  /** The client of the current room; null while there is no room. */
  get client() {
    return this.#client;
  }

  get isRecovering() {
    return this.#isRecovering;
  }

  /**
   * Connect to a room.
   *
   * @param {string} room
   * @param {boolean} isContinued Whether the page still shows the messages of an earlier connection.
   */
  open(room, isContinued) {
    const path = (document.body.dataset.websocketPath ?? "").replace(/\/$/, "");
    const url = urlOf(`${path}/${encodeURIComponent(room)}`);
    // SECURITY: another tab may have signed in as another user, whose cookie would send this user's queued messages.
    url.searchParams.set("user", this.#session.user?.id ?? "");
    this.#wasOpen &&= isContinued;
    this.#hasOpened = this.#isRecovering = this.#hasHistory = false;
    /** @type {RealtimeClient} */
    const client = connect(url, this.#session.connectionOptions);
    this.#client = client;
    client.onStatus((status) => client === this.#client && this.#showStatus(status));
    client.on("serverPosition", ({ connection }) => (this.#hasHistory ||= connection !== undefined));
    client.onRecovery(({ recovered }) => this.#receiveRecovery(client, recovered));
    this.#showStatus(client.status);
    return client;
  }

  /** Close without an event. */
  close() {
    const client = this.#client;
    this.#client = null;
    client?.close();
    clearInterval(this.#countdownTimer);
    clearTimeout(this.#resyncTimer);
    clearTimeout(this.#banTimer);
  }

  /** @param {ConnectionStatus} status */
  #showStatus({ state, nextTryAtMs, code, reason }) {
    this.#line.dataset.state = state;
    this.#text.textContent = statusText(state, code);
    setShown(this.#tryNow, state === "waiting" || state === "closed", this.#conversation);
    this.#tryNow.textContent = state === "closed" ? "Connect again" : "Try now";
    clearTimeout(this.#banTimer);
    if (state === "closed") this.#waitForBan(reason);
    this.#showCountdown(nextTryAtMs);
    if (state === "open") {
      const isReconnection = this.#wasOpen;
      this.#wasOpen = this.#hasOpened = true;
      this.#isRecovering = isReconnection && this.#hasHistory;
      this.#events.onOpen(isReconnection && !this.#hasHistory);
      return;
    }
    clearTimeout(this.#resyncTimer);
    this.#events.onInterrupted(state !== "connecting");
    if (state === "closed") this.#events.onEnd(this.#hasOpened, code, reason);
  }

  /** Offer another attempt only when a ban has ended. @param {string} reason */
  #waitForBan(reason) {
    const leftMs = Date.parse(BANNED.exec(reason)?.[1] ?? "") - Date.now();
    if (!(leftMs > 0)) return;
    setShown(this.#tryNow, false, this.#conversation);
    this.#banTimer = setTimeout(() => (this.#tryNow.hidden = false), Math.min(leftMs, MAX_TIMER_MS));
  }

  /** @param {number | null} nextTryAtMs */
  #showCountdown(nextTryAtMs) {
    clearInterval(this.#countdownTimer);
    this.#countdown.textContent = "";
    if (nextTryAtMs === null) return;
    const count = () => {
      this.#countdown.textContent = `Next try in ${Math.max(0, Math.ceil((nextTryAtMs - Date.now()) / 1000))} s`;
    };
    count();
    this.#countdownTimer = setInterval(count, 250);
  }

  /** @param {RealtimeClient} client @param {boolean} recovered */
  #receiveRecovery(client, recovered) {
    if (!recovered) this.#events.onMissing();
    if (!recovered && !this.#isRecovering) {
      // The server itself has lost messages, so the list of people may be wrong, too.
      clearTimeout(this.#resyncTimer);
      this.#resyncTimer = setTimeout(() => client.reconnect(), Math.random() * RESYNC_WITHIN_MS);
    }
    this.#isRecovering = false;
  }
}

/** @param {string} state @param {number | null} code */
function statusText(state, code) {
  if (state === "connecting") return "Connecting…";
  if (state === "open") return "Connected";
  if (state === "closed") return "Disconnected";
  if (code === 1012) return "The server is restarting.";
  if (code === 1013) return "The server is temporarily unavailable.";
  if (code === 4008) return "Connection too slow.";
  if (code === 4029) return "Too many messages at once.";
  if (code === 4429) return "You are connected too often: close other tabs or devices.";
  return "Connection lost.";
}
