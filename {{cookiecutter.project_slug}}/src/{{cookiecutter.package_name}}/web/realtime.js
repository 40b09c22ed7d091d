/**
 * A WebSocket client that reconnects: JSON messages `{"type": ..., "payload": ...}`, a status for the
 * user interface, and recovery of missed messages as far as the server's history goes. It has no
 * dependencies and runs in browsers and in Node: 22 or newer, older releases with
 * `--experimental-websocket`.
 *
 * A dead connection is detected where the server announces a heartbeat (`heartbeatSeconds` in
 * `serverPosition`): if nothing arrives for 5 s more than twice that time, the client reconnects. When the
 * network is online again, or the page is shown again, it sends `clientPing` at once and reconnects if
 * nothing arrives within 3 s. It also reconnects if a repeated position shows that messages are missing.
 * Without an announcement it does none of this.
 *
 * A server that stops closes with 1012 and the reason `retry=1.7`: the client waits so many seconds, in place of its own
 * delay, and reconnects to another node.
 *
 * A session that ends is refreshed over the open connection: when the server announces the end
 * (`serverSessionExpiring`), the client calls `refresh` and sends its result as `clientRefreshSession`. The
 * socket stays, and no message is lost.
 *
 *     import { connect } from "./realtime.js";
 *
 *     const client = connect("/ws/chat/general");
 *     client.on("serverNewMessage", ({ user, text }) => show(user, text));
 *     client.onStatus(({ state, nextTryAtMs }) => showState(state, nextTryAtMs));
 *     client.send("clientSendMessage", { text: "Hello" });
 *     const { payload } = await client.request("clientRollDice", { sides: 6 });
 *     await client.request("clientSendMessage", { text: "Hello" }, { once: true });
 *
 * On a route for several rooms, one connection is in many of them. Each room is a client of its own, with its own messages,
 * positions and status; after a reconnection all of them are joined again by one message.
 *
 *     const client = connect("/ws");
 *     const general = client.join("general");
 *     general.on("serverNewMessage", ({ user, text }) => show(user, text));
 *     general.send("clientSendMessage", { text: "Hello" });
 *     general.leave();
 *
 * A request with `once` survives lost connections: it is sent again with the same reference, and the server, which knows
 * this client by a random id, answers it from the first reply.
 */

/**
 * - `connecting`: an attempt is in progress.
 * - `open`: messages can be sent and received.
 * - `waiting`: the connection is lost; the next attempt is at `nextTryAtMs`.
 * - `closed`: the final state, after `close()` or a terminal close code.
 *
 * @typedef {"connecting" | "open" | "waiting" | "closed"} ConnectionState
 */

/**
 * @typedef {object} MessageInfo
 * @property {string} [id] The position of the message in a room with history.
 * @property {number} [at] The time at which it was published, as in `Date.now()`, from the server's clock.
 */

/**
 * @typedef {object} ConnectionStatus
 * @property {ConnectionState} state
 * @property {number | null} nextTryAtMs The time of the next attempt, as in `Date.now()`; only while `waiting`.
 * @property {number | null} code The close code; only while `waiting` or `closed`.
 * @property {string} reason The close reason, often empty.
 */

/**
 * @typedef {object} RealtimeOptions
 * @property {number} [baseDelayMs] The longest delay before the first retry; it doubles with each failure. Default 500.
 * @property {number} [maxDelayMs] The upper bound of the client's own delays: a server that stops may ask for another one. Default 30,000.
 * @property {number} [stableAfterMs] A connection that lasts this long resets the delay. Default 5,000.
 * @property {number} [connectTimeoutMs] The timeout of an attempt. Default 10,000.
 * @property {number} [heartbeatTimeoutMs] With a heartbeat: the longest time without a message. Default: twice the announced interval and 5,000.
 * @property {number} [probeTimeoutMs] With a heartbeat: the time for an answer after a wake-up. Default 3,000.
 * @property {number} [maxQueuedMessages] The size of the queue while not open; `send` refuses more. Default 100.
 * @property {number} [maxBufferedBytes] While open, `send` refuses while the socket buffers more bytes. Default 1 MiB.
 * @property {() => Promise<string | null>} [ticket] Returns a one-time ticket for a handshake, which the URL's query passes on as `ticket`.
 *   Called before each attempt, within `connectTimeoutMs`. A rejection is a failed attempt, which is retried; `null`, or a
 *   rejection with `{ terminal: true }`, closes the client with 4401. Default: no ticket.
 * @property {() => Promise<string | null>} [refresh] Returns a new token or ticket of the same user, when the session is about to expire.
 *   A rejection, and a server that cannot check the result, are retried with the delays of a connection until the
 *   session expires; `null`, or a rejection with `{ terminal: true }`, is not. Default: the session is not refreshed.
 * @property {new (url: string) => WebSocket} [WebSocketClass] Default: the global `WebSocket`.
 */

// https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1: a retry would fail in the same way.
const TERMINAL_CODES = new Set([1002, 1003, 1007, 1008, 1009, 1010]);

/**
 * A request with `once`.
 *
 * @typedef {object} OnceRequest
 * @property {string} text
 * @property {boolean} isWritten It is on the connection, or in the queue.
 * @property {boolean} wasSent It was on a connection, so that it may have arrived.
 * @property {number} failures The number of errors after which it was sent again.
 * @property {ReturnType<typeof setTimeout> | undefined} timer It is sent again at its end.
 */

// 3000 + the HTTP status, as Falcon maps it: timeout, too early and too many requests are temporary. So are
// too many connections of one user.
const RETRYABLE_CODES = new Set([3408, 3425, 3429, 4429]);

// The close reason of a server that stops: the seconds until the next attempt, at most 9,999.
const RETRY = /^retry=(\d{1,4}(?:\.\d{1,3})?)$/;

// A position in a room's history: `epoch:offset`.
const POSITION = /^([^:]+):(\d{1,15})$/;

// One per room of a connection, and spare ones for epochs that have ended.
const MAX_POSITIONS = 16;
// A message from one of these connections may be among those that the next one recovers.
const MAX_CONNECTION_IDS = 4;

const HEARTBEAT_MARGIN_MS = 5_000;
// A timer that is later than this was throttled or suspended: messages may be waiting behind it.
const LATE_MS = 2_000;
// https://html.spec.whatwg.org/multipage/timers-and-user-prompts.html: a longer timeout fires at once.
const MAX_TIMER_MS = 2 ** 31 - 1;
const REFRESH = "clientRefreshSession";
const DEFAULT_REQUEST_TIMEOUT_MS = 10_000;
const DEFAULT_ONCE_TIMEOUT_MS = 60_000;
// Errors after which a request with `once` is sent again: it has not taken effect, or the server knows whether it has.
const RETRIED_ERRORS = new Set(["unavailable", "tooManyMessages", "timeout"]);
const CLIENT_ID_BYTES = 16;
// JSON.stringify escapes half of a surrogate pair, and nothing else like this. It is not valid JSON for the server, which
// would not see the reference.
const HALF_CHARACTER = /[^\\](\\\\)*\\ud[89a-f]/;
// What the references of the server's requests begin with.
const SERVER_REF = "server:";
const REPLY = "clientReply";
const JOIN = "clientJoin";
const LEAVE = "clientLeave";
// The largest request to join: the server's bound of a message is 64 KiB, and names may take more bytes than characters.
const MAX_JOIN_CHARACTERS = 16_384;
// In one room: its position, and spare ones.
const MAX_ROOM_POSITIONS = 2;
// The longest error that the server accepts.
const MAX_ERROR_CHARACTERS = 1_000;
const PROBE = JSON.stringify({ type: "clientPing", payload: {} });

const ABNORMAL_CLOSURE = 1006;
const SERVICE_RESTART = 1012;
const TRY_AGAIN_LATER = 1013;
const SIGNED_OUT = 4401;
const [SOCKET_CONNECTING, SOCKET_OPEN, SOCKET_CLOSED] = [0, 1, 3];

/** A request that has failed: `error.code` tells why, and `message` is a sentence for the user. */
export class RequestError extends Error {
  /**
   * @param {string} code That of the server's error; or `timeout`, `disconnected`, or `notSent` for a request that has no effect.
   * @param {string} message
   * @param {string} [field] The path of the invalid value in the payload.
   */
  constructor(code, message, field) {
    super(message);
    this.name = "RequestError";
    this.code = code;
    this.field = field;
  }
}

/** Return whether a close code rules out a retry. @param {number} code */
export function isTerminalCode(code) {
  if (RETRYABLE_CODES.has(code)) return false;
  return TERMINAL_CODES.has(code) || (code >= 3400 && code <= 3499) || (code >= 4400 && code <= 4499);
}

/**
 * Return the delay before a retry: exponential backoff with full jitter, which spreads the clients of
 * a restarted server (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
 *
 * @param {number} failures The number of failed attempts since the last stable connection.
 * @param {number} baseDelayMs
 * @param {number} maxDelayMs
 */
export function retryDelayMs(failures, baseDelayMs, maxDelayMs) {
  return Math.random() * Math.min(maxDelayMs, baseDelayMs * 2 ** Math.min(failures, 1_000)); // 0 * Infinity is NaN.
}

/** Return the delay that a server that stops asks for; null for another end. @param {number} code @param {string} reason */
function announcedDelayMs(code, reason) {
  const seconds = code === SERVICE_RESTART ? RETRY.exec(reason)?.[1] : undefined;
  return seconds === undefined ? null : Number(seconds) * 1_000;
}

/**
 * Create a client and start its first attempt.
 *
 * @template {object} [Incoming=Record<string, any>] Message types from the server, with their payloads.
 * @template {object} [Outgoing=Record<string, any>] Message types to the server, with their payloads.
 * @param {string | URL} url `ws:`, `wss:`, `http:` or `https:`; in a browser also a path on the page's own origin.
 * @param {RealtimeOptions} [options]
 * @returns {RealtimeClient<Incoming, Outgoing>}
 * @throws {TypeError | DOMException} If the URL is invalid, or no `WebSocket` is available.
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
  /** @type {Map<string, Set<(message: { payload: any, info: MessageInfo }) => void>>} */
  #listeners = new Map();
  /** @type {Set<(status: ConnectionStatus) => void>} */
  #statusListeners = new Set();
  /** @type {Set<(recovery: { recovered: boolean }) => void>} */
  #recoveryListeners = new Set();
  /** @type {Map<string, number>} The last offset of each epoch, most recently received last. */
  #positions = new Map();
  /** @type {string[]} The ids of the last connections, the latest last. */
  #connectionIds = [];
  /** 128 random bits by which the server knows this client on each of its connections. */
  #clientId = randomHex(CLIENT_ID_BYTES);
  /** @type {string[]} */
  #queue = [];
  /** @type {ConnectionStatus} */
  #status = { state: "connecting", nextTryAtMs: null, code: null, reason: "" };
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #failures = 0;
  /** The number of attempts and of their ends: the result of an earlier attempt's ticket is ignored. */
  #attempt = 0;
  /** @type {number | null} */
  #openedAtMs = null;
  /** The longest time without a message; 0 while the server has announced no heartbeat. */
  #silenceMs = 0;
  #receivedAt = instant();
  /** The requests without a reply, by their `ref`. @type {Map<string, { settle: (error: RequestError | null, reply?: any) => void, text: string, once: OnceRequest | null }>} */
  #requests = new Map();
  /** The requests with `once` that have no reply, in their order. Only the first one is sent, so that none overtakes it. @type {OnceRequest[]} */
  #once = [];
  #lastRef = 0;
  /** The functions that answer requests of the server, by their message type. @type {Map<string, (payload: any) => unknown>} */
  #answers = new Map();
  /** The client of the connection that this room is on; null for a client with a connection of its own. @type {RealtimeClient<any, any> | null} */
  #carrier = null;
  /** The rooms on this connection by their names. @type {Map<string, RealtimeRoom<any, any>>} */
  #rooms = new Map();
  /** Their latest sockets, which this connection carries. @type {Map<string, RoomSocket>} */
  #roomSockets = new Map();
  /** Whether `clientPing` has been sent and nothing has arrived since. Messages are queued meanwhile. */
  #isProbing = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #refreshTimer;
  /** The refresh in progress, whose `retry` repeats it after a delay; null once it has succeeded or ended. @type {{ retry: () => void, isSent: boolean } | null} */
  #refreshing = null;

  /** @param {string | URL} url @param {RealtimeOptions} [options] @param {RealtimeClient<any, any> | null} [carrier] */
  constructor(url, options = {}, carrier = null) {
    this.#carrier = carrier;
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    const { baseDelayMs = 500, maxDelayMs = 30_000, stableAfterMs = 5_000, connectTimeoutMs = 10_000 } = options;
    const { heartbeatTimeoutMs, probeTimeoutMs = 3_000 } = options;
    const { maxQueuedMessages = 100, maxBufferedBytes = 1_048_576, ticket, refresh } = options;
    this.#options = {
      ...{ baseDelayMs, maxDelayMs, stableAfterMs, connectTimeoutMs },
      ...{ heartbeatTimeoutMs, probeTimeoutMs, maxQueuedMessages, maxBufferedBytes, ticket, refresh },
    };
    this.#WebSocketClass = options.WebSocketClass ?? globalThis.WebSocket;
    if (carrier) {
      this.#WebSocketClass = /** @type {typeof WebSocket} */ (/** @type {unknown} */ (RoomSocket.on(this.#url.hash, (socket) => carrier.#carry(socket))));
      this.#options.connectTimeoutMs = MAX_TIMER_MS; // The server answers each request to join.
    }
    if (!this.#WebSocketClass) throw new TypeError("No global WebSocket: pass one as WebSocketClass.");
    this.#open();
    globalThis.addEventListener?.("online", this.#wake);
    globalThis.addEventListener?.("pageshow", this.#wake);
    globalThis.document?.addEventListener("visibilitychange", this.#wake);
  }

  get state() {
    return this.#status.state;
  }

  get status() {
    return this.#status;
  }

  /** The number of messages queued for the next connection, until the connection has been checked, or for the reply to an earlier request. */
  get queuedMessages() {
    return this.#queue.length + this.#once.filter((request) => !request.isWritten).length;
  }

  /**
   * Join a room on a route for several rooms per connection. The room is joined again after each reconnection. One that
   * the server refuses for good (see `isTerminalCode`) is `closed` with the code and the reason; the connection and the
   * other rooms are not affected. A room that is joined already is returned as it is.
   *
   * @param {string} room
   * @returns {RealtimeRoom<Incoming, Outgoing>}
   * @throws {Error} If the client is closed, or is a room itself.
   */
  join(room) {
    if (this.#carrier) throw new Error("A room has no rooms: use the client of the connection.");
    if (this.state === "closed") throw new Error("The client is closed.");
    const known = /** @type {RealtimeRoom<Incoming, Outgoing> | undefined} */ (this.#rooms.get(room));
    if (known) return known;
    const { baseDelayMs, maxDelayMs, stableAfterMs, maxQueuedMessages, maxBufferedBytes } = this.#options;
    const url = new URL("ws://room/");
    url.hash = encodeURIComponent(room);
    const options = { baseDelayMs, maxDelayMs, stableAfterMs, maxQueuedMessages, maxBufferedBytes };
    const joined = /** @type {RealtimeRoom<Incoming, Outgoing>} */ (new RealtimeRoom(url, options, this));
    this.#rooms.set(room, joined);
    joined.onStatus(({ state }) => state === "closed" && this.#rooms.get(room) === joined && this.#rooms.delete(room));
    return joined;
  }

  /**
   * Call `listener` with the payload of each message of this type; a missing payload is `{}`.
   * An exception in a listener is logged to the console and does not affect other listeners. Each call
   * is a separate subscription; all subscriptions end when the connection is `closed`.
   *
   * NOTE: payloads are not validated against their types.
   *
   * @template {keyof Incoming & string} Type
   * @param {Type} type
   * @param {(payload: Incoming[Type], info: MessageInfo) => void} listener
   * @returns {() => boolean} Ends the subscription.
   */
  on(type, listener) {
    const notify = (/** @type {{ payload: Incoming[Type], info: MessageInfo }} */ { payload, info }) => listener(payload, info);
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(notify));
    return () => listeners.delete(notify);
  }

  /**
   * Call `listener` on each change of the status; `status` has the current one.
   *
   * @param {(status: ConnectionStatus) => void} listener
   * @returns {() => boolean} Ends the subscription.
   */
  onStatus(listener) {
    // A listener that closes or retries changes the status: later listeners get the new one only.
    const notify = (/** @type {ConnectionStatus} */ status) => status === this.#status && listener(status);
    this.#statusListeners.add(notify);
    return () => this.#statusListeners.delete(notify);
  }

  /**
   * Call `listener` with the outcome of a recovery: after a reconnection, and when the server itself has
   * lost messages. With `recovered: false` messages are missing, and the application's state may
   * be out of date.
   *
   * @param {(recovery: { recovered: boolean }) => void} listener
   * @returns {() => boolean} Ends the subscription.
   */
  onRecovery(listener) {
    const notify = (/** @type {{ recovered: boolean }} */ recovery) => listener(recovery);
    this.#recoveryListeners.add(notify);
    return () => this.#recoveryListeners.delete(notify);
  }

  /**
   * Send a message, or queue it for the next connection. Queued messages are sent first, in order,
   * before the `onStatus` listeners receive `open`. While the client waits for the answer to `clientPing`,
   * messages are queued as well, because the connection may be dead.
   *
   * NOTE: `true` means accepted, not delivered: a message written to a connection that is just being lost
   * does not arrive. `request` tells.
   *
   * @template {keyof Outgoing & string} Type
   * @param {Type} type
   * @param {Outgoing[Type]} [payload]
   * @returns {boolean} Whether the message was accepted: `false` when closed or when a queue limit is reached.
   */
  send(type, payload) {
    return this.#write(JSON.stringify({ type, payload: payload ?? {} }));
  }

  /**
   * Send a message, or queue it, and wait for its reply: what its handler returns, or `serverAck` once it was handled.
   * The reply is for the promise only: listeners do not receive it.
   *
   * With `once`, for a type whose handler has it (`@handles_message(..., once=True)`), a lost connection does not fail the
   * request: it is sent again over the next one with the same reference, before newer messages, and handled once. So it
   * is after `unavailable`, `tooManyMessages` and `timeout` from the server, with the delays of a connection. One such
   * request is on its way at a time, and the next is sent after its reply: they are handled in their order. The server
   * keeps a reply for 300 s by default: give `timeoutMs` no more, unless its database knows the id of the client and the
   * reference.
   *
   * @template {keyof Outgoing & string} Type
   * @param {Type} type
   * @param {Outgoing[Type]} [payload]
   * @param {{ timeoutMs?: number, once?: boolean }} [options] `timeoutMs` includes the time in the queue. Default 10,000;
   *   60,000 with `once`.
   * @returns {Promise<any>} The reply: `{ type, payload }`.
   * @throws {RequestError} The server's error; or `timeout` or `disconnected`, after which the request may have taken
   *   effect; or `notSent`, after which it has not.
   */
  request(type, payload, { once = false, timeoutMs = once ? DEFAULT_ONCE_TIMEOUT_MS : DEFAULT_REQUEST_TIMEOUT_MS } = {}) {
    const ref = this.#nextRef();
    return new Promise((resolve, reject) => {
      const text = JSON.stringify({ type, payload: payload ?? {}, ref }); // It may throw, which rejects.
      /** @type {OnceRequest | null} */
      const request = once ? { text, isWritten: false, wasSent: false, failures: 0, timer: undefined } : null;
      const timer = setTimeout(() => settle(this.#unanswered(ref, "timeout")), Math.min(timeoutMs, MAX_TIMER_MS));
      const settle = (/** @type {RequestError | null} */ error, /** @type {any} */ reply = undefined) => {
        clearTimeout(timer);
        this.#requests.delete(ref);
        if (request) this.#endOnce(request);
        if (error) reject(error);
        else resolve(reply);
      };
      this.#requests.set(ref, { settle, text, once: request });
      if (HALF_CHARACTER.test(text)) settle(new RequestError("invalidPayload", "The message has half a character."));
      else if (!(request ? this.#addOnce(request) : this.#write(text))) settle(this.#unanswered(ref, "notSent"));
    });
  }

  /**
   * Answer the server's requests of this type with what `answer` returns, or its promise: `self.request` in Python. An
   * exception is logged to the console, and its message is sent. Without a function the server is told so at once.
   *
   * @template {keyof Incoming & string} Type
   * @param {Type} type
   * @param {((payload: Incoming[Type]) => unknown) | null} answer It replaces an earlier one; null removes it.
   */
  answer(type, answer) {
    if (answer) this.#answers.set(type, answer);
    else this.#answers.delete(type);
  }

  /** The server knows the requests of all rooms by the id of their connection's client. @returns {string} */
  #nextRef() {
    return this.#carrier ? this.#carrier.#nextRef() : String((this.#lastRef += 1));
  }

  /** @param {string} text @returns {boolean} Whether the text was sent or queued. */
  #write(text) {
    // A closing socket would drop the message silently.
    const { readyState } = (this.#carrier ?? this).#socket ?? {};
    if (this.state === "open" && this.#socket && readyState === SOCKET_OPEN && !(this.#carrier ?? this).#isProbing) {
      if (this.#socket.bufferedAmount > this.#options.maxBufferedBytes) return false;
      this.#socket.send(text);
      return true;
    }
    if (this.state === "closed" || this.queuedMessages >= this.#options.maxQueuedMessages) return false;
    this.#queue.push(text);
    return true;
  }

  /** @param {OnceRequest} request @returns {boolean} Whether it was accepted. */
  #addOnce(request) {
    if (this.state === "closed" || this.queuedMessages >= this.#options.maxQueuedMessages) return false;
    this.#once.push(request);
    if (this.#once.length === 1) this.#sendOnce();
    return true;
  }

  /** Send or queue the first request with `once`, unless that has been done. */
  #sendOnce() {
    const [first] = this.#once;
    if (!first || first.isWritten) return;
    first.isWritten = true; // It does not count twice towards the bound of the queue.
    if (!this.#write(first.text)) this.#sendOnceLater(first);
  }

  /** @param {OnceRequest} request The first one. */
  #sendOnceLater(request) {
    const { baseDelayMs, maxDelayMs } = this.#options;
    const delayMs = baseDelayMs / 2 + retryDelayMs(request.failures, baseDelayMs, maxDelayMs);
    request.isWritten = false;
    request.failures += 1;
    request.timer = setTimeout(() => this.#sendOnce(), delayMs);
  }

  /** @param {OnceRequest} request It has a reply, or has failed: the next one is sent. */
  #endOnce(request) {
    clearTimeout(request.timer);
    const isFirst = request === this.#once[0];
    this.#once = this.#once.filter((other) => other !== request);
    if (isFirst) this.#sendOnce();
  }

  /** The connection is lost: the first request with `once` is the first message on the next one. */
  #repeatOnce() {
    const [first] = this.#once;
    if (!first || this.#queue.includes(first.text)) return;
    clearTimeout(first.timer);
    first.isWritten = first.wasSent = true;
    this.#queue.unshift(first.text);
  }

  /** Retry at once; no effect in any state but `waiting`. */
  retryNow = () => {
    if (this.state !== "waiting") return;
    clearTimeout(this.#timer);
    this.#open();
  };

  /** Replace the current connection with a new one; no effect in any state but `open`. */
  reconnect() {
    const socket = this.#socket;
    if (this.state !== "open" || !socket) return;
    this.#resetIfStable();
    this.#socket = this.#openedAtMs = null;
    socket.close();
    this.#rejectSent(false);
    this.#open();
    this.#dropRooms();
  }

  /**
   * Close permanently: queued messages are discarded and no further messages are received.
   *
   * @param {number} [code] 1000 or 3000 to 4999.
   * @param {string} [reason] At most 123 bytes of UTF-8.
   * @throws {DOMException} If the code or the reason is invalid; the connection is unchanged.
   */
  close(code = 1000, reason = "") {
    if (this.state === "closed") return;
    const socket = this.#socket;
    if (this.#isProbing && socket) this.#sendQueue(socket);
    this.#socket = null; // Node dispatches events within `close`: they are not a loss.
    try {
      socket?.close(code, reason);
    } catch (error) {
      this.#socket = socket;
      throw error;
    }
    this.#end(code, reason);
  }

  #open() {
    clearTimeout(this.#timer);
    this.#stopRefresh();
    this.#silenceMs = 0;
    this.#isProbing = false;
    this.#attempt += 1;
    const { ticket, connectTimeoutMs } = this.#options;
    if (!ticket) this.#handshake(null);
    this.#timer = setTimeout(() => this.#lose(this.#socket, ABNORMAL_CLOSURE, ""), connectTimeoutMs);
    this.#setStatus({ state: "connecting", nextTryAtMs: null, code: null, reason: "" });
    if (ticket) this.#fetchTicket(ticket, this.#attempt);
  }

  /** @param {() => Promise<string | null>} fetchTicket @param {number} attempt */
  async #fetchTicket(fetchTicket, attempt) {
    let [ticket, code] = [/** @type {string | null} */ (null), SIGNED_OUT];
    try {
      if (attempt === this.#attempt) ticket = await fetchTicket();
      if (attempt === this.#attempt && ticket !== null) return this.#handshake(ticket);
    } catch (error) {
      if (!isTerminalError(error)) code = ABNORMAL_CLOSURE;
    }
    if (attempt === this.#attempt) this.#lose(null, code, "");
  }

  /** @param {string | null} ticket */
  #handshake(ticket) {
    const url = new URL(this.#url);
    for (const [epoch, offset] of this.#positions) url.searchParams.append("since", `${epoch}:${offset}`);
    for (const id of this.#connectionIds) url.searchParams.append("connection", id);
    url.searchParams.set("client", this.#clientId);
    if (ticket !== null) url.searchParams.set("ticket", ticket);
    const socket = new this.#WebSocketClass(url.href);
    this.#socket = socket;
    socket.addEventListener("open", () => this.#opened(socket));
    socket.addEventListener("message", (event) => this.#receive(socket, event.data));
    socket.addEventListener("close", (event) => this.#lose(socket, event.code, event.reason));
    // NOTE: some releases of Node's WebSocket report a failed attempt with "error" and never with "close".
    socket.addEventListener("error", () => this.#openedAtMs === null && this.#lose(socket, ABNORMAL_CLOSURE, ""));
  }

  /** @param {WebSocket} socket */
  #opened(socket) {
    if (socket !== this.#socket) return;
    clearTimeout(this.#timer);
    this.#openedAtMs = performance.now();
    this.#joinRooms();
    this.#sendQueue(socket);
    this.#setStatus({ state: "open", nextTryAtMs: null, code: null, reason: "" });
  }

  /** @param {WebSocket} socket */
  #sendQueue(socket) {
    if (socket.readyState !== SOCKET_OPEN || (this.#carrier ?? this).#socket?.readyState !== SOCKET_OPEN) return;
    for (const text of this.#queue.splice(0)) socket.send(text);
  }

  /** @param {WebSocket} socket @param {any} data */
  #receive(socket, data) {
    if (socket !== this.#socket) return;
    this.#receivedAt = instant();
    if (this.#isProbing) {
      this.#isProbing = false;
      this.#sendQueue(socket);
      for (const room of this.#rooms.values()) if (room.#socket) room.#sendQueue(room.#socket);
      this.#watch(socket);
    }
    let message = /** @type {any} */ ({});
    try {
      message = (typeof data === "string" ? JSON.parse(data) : this.#carrier && data) ?? {}; // A room's are decoded.
    } catch {
      // Reported below, together with JSON that is not a message.
    }
    const payload = message.payload ?? {};
    if (this.#refuseAll(message, payload)) return;
    if (typeof message.room === "string" && !this.#carrier) return this.#receiveInRoom(message, payload);
    if (typeof message.type !== "string") {
      this.#advance(socket, message.id, "", {}); // It has a position, even if no listener can receive it.
      console.warn("Ignored a message from the server: it is not a JSON object with a type.");
      return;
    }
    if (message.type === "serverPosition") {
      // First: a room that finds a gap replaces the connection, which ends this expectation.
      this.#expectHeartbeats(socket, payload.heartbeatSeconds);
      if (payload.rooms) this.#receivePositions(payload.rooms);
    }
    if (!this.#advance(socket, message.id, message.type, payload)) return;
    if (String(message.ref).startsWith(SERVER_REF)) return void this.#reply(socket, message.ref, message.type, payload);
    if (message.ref !== undefined) return this.#settle(message.ref, message.type, payload);
    if (this.#receiveSession(socket, message.type, payload)) return;
    callEach(this.#listeners.get(message.type), { payload, info: { id: message.id, at: message.at } });
    if (message.type === "serverPosition" && typeof payload.recovered === "boolean") {
      callEach(this.#recoveryListeners, { recovered: payload.recovered });
    }
  }

  /**
   * Advance the position to that of a message. A repeated position after that of the last message is a gap:
   * the client reconnects, to get the missed messages.
   *
   * @param {WebSocket} socket
   * @param {any} id
   * @param {string} type
   * @param {any} payload
   * @returns {boolean} `false` for a message that was received before, and for a gap.
   */
  #advance(socket, id, type, payload) {
    const [, epoch, digits] = (typeof id === "string" && POSITION.exec(id)) || [];
    if (epoch === undefined) return true;
    const offset = Number(digits);
    const known = this.#positions.get(epoch);
    if (type !== "serverPosition") {
      if (known !== undefined && offset <= known) return false;
    } else if (payload.connection !== undefined) {
      const id = String(payload.connection);
      this.#connectionIds = [...this.#connectionIds.filter((other) => other !== id), id].slice(-MAX_CONNECTION_IDS);
    } else if (known !== undefined) {
      // NOTE: it may be lower, where the last messages were not for all members of the room.
      if (offset <= known) return true;
      if (this.#carrier) this.#carrier.reconnect(); // A leave would be announced in the room.
      else this.#lose(socket, ABNORMAL_CLOSURE, "");
      return false;
    }
    this.#positions.delete(epoch);
    this.#positions.set(epoch, offset);
    for (const oldest of this.#positions.keys()) {
      if (this.#positions.size <= (this.#carrier ? MAX_ROOM_POSITIONS : MAX_POSITIONS)) break;
      this.#positions.delete(oldest);
    }
    return true;
  }

  /** Carry the socket of a room, which is joined with all others that are waiting. @param {RoomSocket} socket */
  #carry(socket) {
    this.#roomSockets.set(socket.room, socket);
    queueMicrotask(() => this.#joinRooms());
    return {
      /** @param {string} text */
      send: (text) => this.#socket?.readyState === SOCKET_OPEN && this.#socket.send(text),
      bufferedAmount: () => this.#socket?.bufferedAmount ?? 0,
      leave: () => {
        if (this.#roomSockets.get(socket.room) === socket) this.#roomSockets.delete(socket.room);
        const isOpen = this.state === "open" && this.#socket?.readyState === SOCKET_OPEN;
        // Never queued: a loss leaves all rooms, and the room may be joined again first.
        if (socket.ref !== null && isOpen) this.#socket?.send(JSON.stringify({ type: LEAVE, payload: { room: socket.room } }));
      },
    };
  }

  /** Join all rooms that are waiting, by as few messages as their size permits. */
  #joinRooms() {
    if (this.#carrier || this.#openedAtMs === null || this.#socket?.readyState !== SOCKET_OPEN) return;
    const waiting = [...this.#roomSockets.values()].filter(({ ref }) => ref === null);
    while (waiting.length > 0) {
      const [ref, rooms, limit] = [this.#nextRef(), /** @type {object[]} */ ([]), MAX_JOIN_CHARACTERS];
      const asked = /** @type {Set<unknown>} */ (new Set());
      for (let size = 0; waiting.length > 0 && size < limit; size += JSON.stringify(rooms.at(-1)).length) {
        const socket = /** @type {RoomSocket} */ (waiting.shift());
        socket.ref = ref;
        socket.asked = asked.add(socket.room);
        rooms.push({ room: socket.room, ...socket.past });
      }
      this.#socket.send(JSON.stringify({ type: JOIN, payload: { rooms }, ref }));
    }
  }

  /**
   * End the rooms of a request to join that is refused as a whole: the error has its reference, and no room or one that
   * was not asked for.
   *
   * @param {any} message
   * @param {any} payload
   * @returns {boolean} Whether the message is such an error.
   */
  #refuseAll({ type, ref, room }, payload) {
    if (type !== "serverError" || ref === undefined || this.#carrier) return false;
    const sockets = [...this.#roomSockets.values()];
    const refused = sockets.filter((each) => each.ref === ref && each.readyState !== SOCKET_OPEN && !each.asked.has(room));
    for (const socket of refused) this.#roomSockets.delete(socket.room);
    for (const socket of refused) socket.end(payload.closeCode ?? TRY_AGAIN_LATER, payload.error);
    return refused.length > 0;
  }

  /** @param {any} message @param {any} payload */
  #receiveInRoom(message, payload) {
    const socket = this.#roomSockets.get(message.room);
    if (!socket) return; // It has been left.
    if (socket.readyState === SOCKET_OPEN) {
      if (message.type !== "serverLeft") return socket.receive(message);
      this.#roomSockets.delete(message.room);
      socket.end(payload.code, payload.reason);
    } else if (message.ref === socket.ref && message.type === "serverJoined") {
      socket.confirm();
    } else if (message.ref === socket.ref && message.type === "serverError") {
      this.#roomSockets.delete(message.room);
      socket.end(payload.closeCode ?? TRY_AGAIN_LATER, payload.error);
    }
  }

  /** Let each room check its position. @param {Record<string, string[]>} rooms */
  #receivePositions(rooms) {
    for (const [room, ids] of Object.entries(rooms)) {
      for (const id of ids) {
        const socket = this.#roomSockets.get(room);
        if (socket?.readyState === SOCKET_OPEN) socket.receive({ type: "serverPosition", payload: {}, id });
      }
    }
  }

  /** The connection is lost: its rooms wait for the next one. */
  #dropRooms() {
    const sockets = [...this.#roomSockets.values()];
    this.#roomSockets.clear();
    for (const socket of sockets) socket.end(ABNORMAL_CLOSURE, "", true);
  }

  /** Settle the request to which a message replies; one that is too late has no effect. @param {any} ref @param {string} type @param {any} payload */
  #settle(ref, type, payload) {
    const request = this.#requests.get(ref);
    if (!request) return;
    const isError = type === "serverError";
    if (request.once && isError && RETRIED_ERRORS.has(payload.code)) return this.#sendOnceLater(request.once);
    request.settle(isError ? new RequestError(payload.code, payload.error, payload.field) : null, { type, payload });
  }

  /** Reply to a request of the server, over the connection that it came from. @param {WebSocket} socket @param {string} ref @param {string} type @param {any} payload */
  async #reply(socket, ref, type, payload) {
    const answer = this.#answers.get(type);
    const reply = (/** @type {object} */ payload) => JSON.stringify({ type: REPLY, ref, payload });
    let text = reply({ code: "unsupported", error: `This client does not answer ${type}.`.slice(0, MAX_ERROR_CHARACTERS) });
    try {
      if (answer) text = reply({ result: (await answer(payload)) ?? null });
    } catch (error) {
      console.error(error);
      text = reply({ code: "failed", error: String(error).slice(0, MAX_ERROR_CHARACTERS) });
    }
    if (socket === this.#socket && socket.readyState === SOCKET_OPEN) socket.send(text);
  }

  /** Return the error of a request without a reply; one that is still queued is taken out. @param {string} ref @param {string} code */
  #unanswered(ref, code) {
    const request = this.#requests.get(ref);
    const index = this.#queue.indexOf(request?.text ?? "");
    if (index >= 0) this.#queue.splice(index, 1);
    const isUnsent = index >= 0 || code === "notSent" || (request?.once && !request.once.isWritten && !request.once.failures);
    if (isUnsent && !request?.once?.wasSent) return new RequestError("notSent", "The message was not sent.");
    return new RequestError(code, "There was no reply: the message may have arrived.");
  }

  /** Reject the requests that were sent over a connection that is lost; those in the queue, and those with `once`, will be sent. @param {boolean} isFinal */
  #rejectSent(isFinal) {
    if (isFinal) this.#once = [];
    else this.#repeatOnce();
    for (const [ref, { settle, text, once }] of [...this.#requests]) {
      if (isFinal || !(once || this.#queue.includes(text))) settle(this.#unanswered(ref, "disconnected"));
    }
  }

  /**
   * Handle the messages about the session's expiry.
   *
   * @param {WebSocket} socket
   * @param {string} type
   * @param {any} payload
   * @returns {boolean} Whether the message is for this client only: the server could not check what `refresh` has returned.
   */
  #receiveSession(socket, type, payload) {
    if (type === "serverSessionExpiring" && typeof payload.expiresInSeconds === "number") {
      this.#refresh(socket, performance.now() + payload.expiresInSeconds * 1_000, 0);
    } else if (type === "serverSessionRefreshed") {
      this.#stopRefresh();
    } else if (type === "serverError" && payload.code === "unavailable" && this.#refreshing?.isSent) {
      this.#refreshing.retry();
      return true;
    }
    return false;
  }

  /**
   * Refresh the session, and repeat it after a failure until the session expires.
   *
   * @param {WebSocket} socket
   * @param {number} expiresAtMs As in `performance.now()`.
   * @param {number} failures The number of failed calls before this one.
   */
  async #refresh(socket, expiresAtMs, failures) {
    const { refresh, connectTimeoutMs, baseDelayMs, maxDelayMs } = this.#options;
    if (!refresh) return;
    this.#stopRefresh();
    const call = { isSent: false, retry: () => {} };
    call.retry = () => {
      if (call !== this.#refreshing) return;
      this.#stopRefresh();
      const delayMs = retryDelayMs(failures, baseDelayMs, maxDelayMs);
      if (performance.now() + delayMs >= expiresAtMs) return;
      this.#refreshTimer = setTimeout(() => this.#refresh(socket, expiresAtMs, failures + 1), delayMs);
    };
    this.#refreshing = call;
    // Until the server has confirmed it: neither a call nor a reply may take longer.
    this.#refreshTimer = setTimeout(call.retry, connectTimeoutMs);
    try {
      const token = await refresh();
      if (call !== this.#refreshing) return; // Too late, or the connection has been replaced.
      if (token === null) return this.#stopRefresh();
      call.isSent = true;
      if (socket.readyState === SOCKET_OPEN) socket.send(JSON.stringify({ type: REFRESH, payload: { token } }));
    } catch (error) {
      if (!isTerminalError(error)) call.retry();
      else if (call === this.#refreshing) this.#stopRefresh();
    }
  }

  #stopRefresh() {
    clearTimeout(this.#refreshTimer);
    this.#refreshing = null;
  }

  /** Handle a sign that the connection may have died unnoticed, or that timers may have been late. */
  #wake = (/** @type {Event} */ event) => {
    if (event.type === "visibilitychange" && globalThis.document.visibilityState === "hidden") return;
    if (this.state === "waiting") this.retryNow();
    else if (this.#socket && this.#silenceMs && !this.#isProbing) this.#probe(this.#socket, true);
  };

  /** @param {WebSocket} socket @param {any} heartbeatSeconds */
  #expectHeartbeats(socket, heartbeatSeconds) {
    if (!(typeof heartbeatSeconds === "number" && heartbeatSeconds > 0)) return;
    const isFirst = this.#silenceMs === 0;
    const { heartbeatTimeoutMs = 2_000 * heartbeatSeconds + HEARTBEAT_MARGIN_MS } = this.#options;
    this.#silenceMs = heartbeatTimeoutMs;
    if (isFirst) this.#watch(socket);
  }

  /**
   * Check at the end of the longest silence whether a message has arrived.
   *
   * PERF: a message does not restart the timer; a check that comes too early does.
   *
   * @param {WebSocket} socket
   */
  #watch(socket) {
    clearTimeout(this.#timer);
    const leftMs = this.#silenceMs - sinceMs(this.#receivedAt);
    const check = () => {
      const excessMs = sinceMs(this.#receivedAt) - this.#silenceMs;
      if (excessMs < 0) this.#watch(socket);
      else if (excessMs < LATE_MS) this.#lose(socket, ABNORMAL_CLOSURE, "");
      else this.#probe(socket, true);
    };
    this.#timer = setTimeout(check, Math.min(leftMs, MAX_TIMER_MS));
  }

  /**
   * Ask the server for an answer, and reconnect if nothing arrives in time.
   *
   * @param {WebSocket} socket
   * @param {boolean} isFirst Whether to ask again if the timer is late.
   */
  #probe(socket, isFirst) {
    this.#isProbing = true;
    const sentAt = instant();
    const { probeTimeoutMs } = this.#options;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (isFirst && sinceMs(sentAt) >= probeTimeoutMs + LATE_MS) this.#probe(socket, false);
      else this.#lose(socket, ABNORMAL_CLOSURE, "");
    }, probeTimeoutMs);
    if (socket.readyState === SOCKET_OPEN) socket.send(PROBE);
  }

  /** Forget the failures before a connection that has lasted long enough. */
  #resetIfStable() {
    if (this.#openedAtMs !== null && performance.now() - this.#openedAtMs >= this.#options.stableAfterMs) this.#failures = 0;
  }

  /** @param {WebSocket | null} socket Null before the handshake. @param {number} code @param {string} reason */
  #lose(socket, code, reason) {
    if (socket !== this.#socket) return;
    const { baseDelayMs, maxDelayMs } = this.#options;
    this.#resetIfStable();
    if (isTerminalCode(code)) {
      this.#end(code, reason);
    } else {
      clearTimeout(this.#timer);
      this.#stopRefresh();
      this.#attempt += 1;
      this.#socket = this.#openedAtMs = null;
      this.#isProbing = false;
      this.#rejectSent(false);
      const delayMs = announcedDelayMs(code, reason) ?? retryDelayMs(this.#failures, baseDelayMs, maxDelayMs);
      this.#failures += 1;
      this.#timer = setTimeout(this.retryNow, delayMs);
      this.#setStatus({ state: "waiting", nextTryAtMs: Date.now() + delayMs, code, reason });
      if (/** @type {any} */ (socket)?.isDropped) {
        this.#failures -= 1;
        this.retryNow();
      }
    }
    socket?.close();
    this.#dropRooms();
  }

  /** @param {number} code @param {string} reason */
  #end(code, reason) {
    clearTimeout(this.#timer);
    this.#stopRefresh();
    this.#attempt += 1;
    this.#socket = this.#openedAtMs = null;
    this.#isProbing = false;
    this.#rejectSent(true);
    this.#queue.length = 0;
    for (const room of [...this.#rooms.values()]) room.#end(code, reason);
    for (const listeners of this.#listeners.values()) listeners.clear();
    globalThis.removeEventListener?.("online", this.#wake);
    globalThis.removeEventListener?.("pageshow", this.#wake);
    globalThis.document?.removeEventListener("visibilitychange", this.#wake);
    this.#setStatus({ state: "closed", nextTryAtMs: null, code, reason });
  }

  /** @param {ConnectionStatus} status */
  #setStatus(status) {
    this.#status = status;
    callEach(this.#statusListeners, status);
  }
}

/**
 * A room on the connection of another client.
 *
 * @template {object} [Incoming=Record<string, any>]
 * @template {object} [Outgoing=Record<string, any>]
 * @extends {RealtimeClient<Incoming, Outgoing>}
 */
export class RealtimeRoom extends RealtimeClient {
  /** Leave the room for good: queued messages are discarded and no further messages are received. */
  leave() {
    this.close();
  }
}

/** The part of a WebSocket that a room has on the connection of its client. */
class RoomSocket extends EventTarget {
  readyState = SOCKET_CONNECTING;
  /** The reference of the request to join; null before it is sent. @type {string | null} */
  ref = null;
  /** All rooms of that request. @type {Set<unknown>} */
  asked = new Set();
  /** Whether the connection has been lost, not the room. */
  isDropped = false;

  /** Return the class of a room's sockets. @param {string} hash @param {(socket: RoomSocket) => any} carry */
  static on(hash, carry) {
    return class extends RoomSocket {
      /** @param {string} url */
      constructor(url) {
        super(url, decodeURIComponent(hash.slice(1)), carry);
      }
    };
  }

  /** @param {string} url @param {string} room @param {(socket: RoomSocket) => any} carry */
  constructor(url, room, carry) {
    super();
    const { searchParams } = new URL(url);
    this.room = room;
    this.past = { since: searchParams.getAll("since"), connection: searchParams.getAll("connection") };
    this.carried = carry(this);
  }

  get bufferedAmount() {
    return this.carried.bufferedAmount();
  }

  /** @param {string} text An encoded object that is not empty. */
  send(text) {
    this.carried.send(`${text.slice(0, -1)},"room":${JSON.stringify(this.room)}}`);
  }

  close() {
    if (this.readyState === SOCKET_CLOSED) return;
    this.readyState = SOCKET_CLOSED;
    this.carried.leave();
  }

  confirm() {
    this.readyState = SOCKET_OPEN;
    this.dispatchEvent(new Event("open"));
  }

  /** @param {object} message */
  receive(message) {
    this.dispatchEvent(Object.assign(new Event("message"), { data: message }));
  }

  /** @param {number} code @param {string} reason @param {boolean} [isDropped] */
  end(code, reason, isDropped = false) {
    this.readyState = SOCKET_CLOSED;
    this.isDropped = isDropped;
    this.dispatchEvent(Object.assign(new Event("close"), { code, reason }));
  }
}

/** @param {number} bytes @returns {string} */
function randomHex(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The present time, on two clocks: in some browsers `performance.now()` stands still while the computer
 * sleeps, and `Date.now()` changes when the clock is set.
 */
function instant() {
  return { steadyMs: performance.now(), clockMs: Date.now() };
}

/** @param {ReturnType<typeof instant>} past */
function sinceMs({ steadyMs, clockMs }) {
  return Math.max(performance.now() - steadyMs, Date.now() - clockMs);
}

/** Return whether an error of `ticket` or `refresh` rules out a retry. @param {any} error */
function isTerminalError(error) {
  return error?.terminal === true;
}

/** @template T @param {Set<(value: T) => void> | undefined} listeners @param {T} value */
function callEach(listeners, value) {
  for (const listener of [...(listeners ?? [])]) {
    try {
      if (listeners?.has(listener)) listener(value); // An earlier listener may have unsubscribed it.
    } catch (error) {
      console.error(error);
    }
  }
}
