/**
 * A WebSocket client that stays connected: JSON messages `{"type": ..., "payload": ...}`, a state
 * to show to people, reconnection, and recovery of what was missed meanwhile, as far as the server
 * keeps it. It depends on nothing and runs in browsers and in Node, from 22 on as it is, before with
 * `--experimental-websocket`. It sends no heartbeat: the server pings.
 *
 *     import { connect } from "./realtime.js";
 *
 *     const client = connect("/ws/chat/general");
 *     client.on("serverNewMessage", ({ user, text }) => show(user, text));
 *     client.onStatus(({ state, nextTryAtMs }) => showState(state, nextTryAtMs));
 *     client.send("clientSendMessage", { text: "Hello" });
 */

/**
 * - `connecting`: a try is under way.
 * - `open`: messages flow.
 * - `waiting`: the connection is lost; the next try is at `nextTryAtMs`.
 * - `closed`: it has ended and stays so, by `close()` or by a code that forbids another try.
 *
 * @typedef {"connecting" | "open" | "waiting" | "closed"} ConnectionState
 */

/**
 * @typedef {object} ConnectionStatus
 * @property {ConnectionState} state
 * @property {number | null} nextTryAtMs When the next try begins, on the clock of `Date.now()`; only while `waiting`.
 * @property {number | null} code The close code that led here; only while `waiting` or `closed`.
 * @property {string} reason The reason that came with the code, often empty.
 */

/**
 * @typedef {object} RealtimeOptions
 * @property {number} [baseDelayMs] The longest wait before the first retry; it doubles with each failure. Default 500.
 * @property {number} [maxDelayMs] The longest wait of all. Default 30,000.
 * @property {number} [stableAfterMs] A connection that lived this long makes the waits short again. Default 5,000.
 * @property {number} [connectTimeoutMs] A try without an answer is given up after this time. Default 10,000.
 * @property {number} [maxQueuedMessages] How many messages wait while not open; `send` refuses more. Default 100.
 * @property {number} [maxBufferedBytes] While open, `send` refuses when the socket holds more unsent bytes. Default 1 MiB.
 * @property {new (url: string) => WebSocket} [WebSocketClass] Default: the global `WebSocket`.
 */

// https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1: each of these would only happen again.
const TERMINAL_CODES = new Set([1002, 1003, 1007, 1008, 1009, 1010]);

// 3000 + the HTTP status (Falcon's way): timeout, too early and too many requests are worth a retry.
const RETRYABLE_CODES = new Set([3408, 3425, 3429]);

// Where a room stands: the name of an unbroken numbering, and a number in it.
const POSITION = /^([^:]+):(\d{1,15})$/;

// One for each room that a connection may be in, and some that an engine has forgotten.
const MAX_POSITIONS = 16;

const ABNORMAL_CLOSURE = 1006;
const SOCKET_OPEN = 1;

/** Whether a close code means that another try cannot succeed. @param {number} code */
export function isTerminalCode(code) {
  if (RETRYABLE_CODES.has(code)) return false;
  return TERMINAL_CODES.has(code) || (code >= 3400 && code <= 3499) || (code >= 4400 && code <= 4499);
}

/**
 * The wait before a retry: exponential with full jitter, so that the clients of a restarted server
 * come back spread out (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
 *
 * @param {number} failures How many tries failed since the last stable connection, from 0.
 * @param {number} baseDelayMs
 * @param {number} maxDelayMs
 */
export function retryDelayMs(failures, baseDelayMs, maxDelayMs) {
  return Math.random() * Math.min(maxDelayMs, baseDelayMs * 2 ** Math.min(failures, 1_000)); // 0 * Infinity is NaN.
}

/**
 * Makes a client and starts its first try.
 *
 * @template {object} [Incoming=Record<string, any>] The payload of each type of message from the server.
 * @template {object} [Outgoing=Record<string, any>] The payload of each type of message to the server.
 * @param {string | URL} url `ws:`, `wss:`, `http:` or `https:`; in a browser also a path on the page's own origin.
 * @param {RealtimeOptions} [options]
 * @returns {RealtimeClient<Incoming, Outgoing>}
 * @throws {TypeError | DOMException} If the URL is not one, or this program has no `WebSocket`.
 */
export function connect(url, options) {
  return new RealtimeClient(url, options);
}

/**
 * @template {object} [Incoming=Record<string, any>]
 * @template {object} [Outgoing=Record<string, any>]
 */
export class RealtimeClient {
  #url;
  #options;
  #WebSocketClass;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {Map<string, Set<(payload: any) => void>>} */
  #listeners = new Map();
  /** @type {Set<(status: ConnectionStatus) => void>} */
  #statusListeners = new Set();
  /** @type {Set<(recovery: { recovered: boolean }) => void>} */
  #recoveryListeners = new Set();
  /** @type {Map<string, number>} The last offset of each epoch, the one heard last at the end. */
  #positions = new Map();
  #connectionId = "";
  /** @type {string[]} */
  #queue = [];
  /** @type {ConnectionStatus} */
  #status = { state: "connecting", nextTryAtMs: null, code: null, reason: "" };
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #failures = 0;
  /** @type {number | null} */
  #openedAtMs = null;

  /** @param {string | URL} url @param {RealtimeOptions} [options] */
  constructor(url, options = {}) {
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    const { baseDelayMs = 500, maxDelayMs = 30_000, stableAfterMs = 5_000, connectTimeoutMs = 10_000 } = options;
    const { maxQueuedMessages = 100, maxBufferedBytes = 1_048_576 } = options;
    this.#options = { baseDelayMs, maxDelayMs, stableAfterMs, connectTimeoutMs, maxQueuedMessages, maxBufferedBytes };
    this.#WebSocketClass = options.WebSocketClass ?? globalThis.WebSocket;
    if (!this.#WebSocketClass) throw new TypeError("There is no WebSocket here: give one as WebSocketClass.");
    this.#open();
    globalThis.addEventListener?.("online", this.retryNow);
  }

  get state() {
    return this.#status.state;
  }

  get status() {
    return this.#status;
  }

  /** How many messages wait for the next connection. */
  get queuedMessages() {
    return this.#queue.length;
  }

  /**
   * Calls `listener` with the payload of each message of this type; a missing payload is `{}`.
   * A listener that throws is reported on the console and disturbs nobody else. Each call is a
   * subscription of its own; all of them end with the connection, that is when it is `closed`.
   *
   * NOTE: the payload is what the server sent; the types are a promise that nothing here checks.
   *
   * @template {keyof Incoming & string} Type
   * @param {Type} type
   * @param {(payload: Incoming[Type]) => void} listener
   * @returns {() => boolean} Ends the subscription.
   */
  on(type, listener) {
    const inform = (/** @type {Incoming[Type]} */ payload) => listener(payload);
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(inform));
    return () => listeners.delete(inform);
  }

  /**
   * Calls `listener` on each change of the status; read `status` for the present one.
   *
   * @param {(status: ConnectionStatus) => void} listener
   * @returns {() => boolean} Ends the subscription.
   */
  onStatus(listener) {
    // A listener that closes or retries changes the status: the others get the new one only.
    const inform = (/** @type {ConnectionStatus} */ status) => status === this.#status && listener(status);
    this.#statusListeners.add(inform);
    return () => this.#statusListeners.delete(inform);
  }

  /**
   * Calls `listener` when the server says whether all that was missed has been sent: after a
   * reconnection, and where the server itself has lost something. With `recovered: false` nothing of
   * what was missed was sent, and what is shown may be out of date.
   *
   * @param {(recovery: { recovered: boolean }) => void} listener
   * @returns {() => boolean} Ends the subscription.
   */
  onRecovery(listener) {
    const inform = (/** @type {{ recovered: boolean }} */ recovery) => listener(recovery);
    this.#recoveryListeners.add(inform);
    return () => this.#recoveryListeners.delete(inform);
  }

  /**
   * Sends a message now, or keeps it for the next connection while there is none. What was kept goes
   * out first, in order, before the listeners of `onStatus` hear of `open`.
   *
   * NOTE: the protocol has no receipts. `true` means taken, not delivered: what was written to a
   * connection that breaks at that moment is lost.
   *
   * @template {keyof Outgoing & string} Type
   * @param {Type} type
   * @param {Outgoing[Type]} [payload]
   * @returns {boolean} Whether the message was taken: not once closed, nor when too much waits already.
   */
  send(type, payload) {
    const text = JSON.stringify({ type, payload: payload ?? {} });
    // A connection that is about to end would drop the message without a word.
    if (this.state === "open" && this.#socket?.readyState === SOCKET_OPEN) {
      if (this.#socket.bufferedAmount > this.#options.maxBufferedBytes) return false;
      this.#socket.send(text);
      return true;
    }
    if (this.state === "closed" || this.#queue.length >= this.#options.maxQueuedMessages) return false;
    this.#queue.push(text);
    return true;
  }

  /** Ends the wait for the next try; without effect in any state but `waiting`. */
  retryNow = () => {
    if (this.state !== "waiting") return;
    clearTimeout(this.#timer);
    this.#open();
  };

  /** Begins another connection where the present one stands; without effect in any state but `open`. */
  reconnect() {
    const socket = this.#socket;
    if (this.state !== "open" || !socket) return;
    this.#socket = this.#openedAtMs = null;
    socket.close();
    this.#open();
  }

  /**
   * Ends the connection for ever and forgets what is queued. No message is heard any more.
   *
   * @param {number} [code] 1000 or 3000 to 4999.
   * @param {string} [reason] At most 123 bytes of UTF-8.
   * @throws {DOMException} If the socket refuses the code or the reason; then nothing has changed.
   */
  close(code = 1000, reason = "") {
    if (this.state === "closed") return;
    const socket = this.#socket;
    this.#socket = null; // Node tells of the end within `close`: it is no loss.
    try {
      socket?.close(code, reason);
    } catch (error) {
      this.#socket = socket;
      throw error;
    }
    this.#end(code, reason);
  }

  #open() {
    const url = new URL(this.#url);
    for (const [epoch, offset] of this.#positions) url.searchParams.append("since", `${epoch}:${offset}`);
    if (this.#connectionId) url.searchParams.set("connection", this.#connectionId);
    const socket = new this.#WebSocketClass(url.href);
    this.#socket = socket;
    const giveUp = () => this.#lose(socket, ABNORMAL_CLOSURE, "");
    this.#timer = setTimeout(giveUp, this.#options.connectTimeoutMs);
    socket.addEventListener("open", () => this.#opened(socket));
    socket.addEventListener("message", (event) => this.#receive(socket, event.data));
    socket.addEventListener("close", (event) => this.#lose(socket, event.code, event.reason));
    // NOTE: some releases of Node's WebSocket report a failed try with "error" and never with "close".
    socket.addEventListener("error", () => this.#openedAtMs === null && giveUp());
    this.#setStatus({ state: "connecting", nextTryAtMs: null, code: null, reason: "" });
  }

  /** @param {WebSocket} socket */
  #opened(socket) {
    if (socket !== this.#socket) return;
    clearTimeout(this.#timer);
    this.#openedAtMs = performance.now();
    for (const text of this.#queue.splice(0)) socket.send(text);
    this.#setStatus({ state: "open", nextTryAtMs: null, code: null, reason: "" });
  }

  /** @param {WebSocket} socket @param {any} data */
  #receive(socket, data) {
    if (socket !== this.#socket) return;
    let message = null;
    try {
      message = JSON.parse(data);
    } catch {
      // Reported below, with what is JSON but no message.
    }
    if (typeof message?.type !== "string") {
      console.warn("A message from the server was ignored: it is not JSON with a type.");
      return;
    }
    const payload = message.payload ?? {};
    if (!this.#place(message.id, message.type, payload)) return;
    callEach(this.#listeners.get(message.type), payload);
    if (message.type === "serverPosition" && typeof payload.recovered === "boolean") {
      callEach(this.#recoveryListeners, { recovered: payload.recovered });
    }
  }

  /** Notes where a message stands; whether it is news. @param {any} id @param {string} type @param {any} payload */
  #place(id, type, payload) {
    const [, epoch, digits] = (typeof id === "string" && POSITION.exec(id)) || [];
    if (epoch === undefined) return true;
    const offset = Number(digits);
    if (type === "serverPosition") this.#connectionId = String(payload.connection ?? "");
    else if (offset <= (this.#positions.get(epoch) ?? -1)) return false;
    this.#positions.delete(epoch);
    this.#positions.set(epoch, offset);
    for (const oldest of this.#positions.keys()) {
      if (this.#positions.size <= MAX_POSITIONS) break;
      this.#positions.delete(oldest);
    }
    return true;
  }

  /** @param {WebSocket} socket @param {number} code @param {string} reason */
  #lose(socket, code, reason) {
    if (socket !== this.#socket) return;
    const { baseDelayMs, maxDelayMs, stableAfterMs } = this.#options;
    if (this.#openedAtMs !== null && performance.now() - this.#openedAtMs >= stableAfterMs) this.#failures = 0;
    if (isTerminalCode(code)) {
      this.#end(code, reason);
    } else {
      clearTimeout(this.#timer);
      this.#socket = this.#openedAtMs = null;
      const delayMs = retryDelayMs(this.#failures, baseDelayMs, maxDelayMs);
      this.#failures += 1;
      this.#timer = setTimeout(this.retryNow, delayMs);
      this.#setStatus({ state: "waiting", nextTryAtMs: Date.now() + delayMs, code, reason });
    }
    socket.close();
  }

  /** @param {number} code @param {string} reason */
  #end(code, reason) {
    clearTimeout(this.#timer);
    this.#socket = this.#openedAtMs = null;
    this.#queue.length = 0;
    for (const listeners of this.#listeners.values()) listeners.clear();
    globalThis.removeEventListener?.("online", this.retryNow);
    this.#setStatus({ state: "closed", nextTryAtMs: null, code, reason });
  }

  /** @param {ConnectionStatus} status */
  #setStatus(status) {
    this.#status = status;
    callEach(this.#statusListeners, status);
  }
}

/** @template T @param {Set<(value: T) => void> | undefined} listeners @param {T} value */
function callEach(listeners, value) {
  for (const listener of [...(listeners ?? [])]) {
    try {
      if (listeners?.has(listener)) listener(value); // One before it may have ended it.
    } catch (error) {
      console.error(error);
    }
  }
}
