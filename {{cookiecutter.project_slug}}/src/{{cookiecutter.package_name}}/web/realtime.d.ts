/**
 * Types of realtime.js, for editors and for TypeScript, and of the messages that it carries.
 *
 *     const client = connect("/ws/chat/general");
 *     client.on("serverNewMessage", ({ user, text }) => show(user, text));
 *     client.send("clientSendMessage", { text: "Hello" });
 */

/**
 * - `connecting`: a try is under way.
 * - `open`: messages flow.
 * - `waiting`: the connection is lost; the next try is at `nextTryAtMs`.
 * - `closed`: it has ended and stays so, by `close()` or by a code that forbids another try.
 */
export type ConnectionState = "connecting" | "open" | "waiting" | "closed";

export interface ConnectionStatus {
  readonly state: ConnectionState;
  /** When the next try begins, on the clock of `Date.now()`; only while `waiting`. */
  readonly nextTryAtMs: number | null;
  /** The close code that led here; only while `waiting` or `closed`. */
  readonly code: number | null;
  /** The reason that came with the code, often empty. */
  readonly reason: string;
}

/** What is left out, or `undefined`, has its default. */
export interface RealtimeOptions {
  /** The longest wait before the first retry; it doubles with each failure. Default 500. */
  baseDelayMs?: number | undefined;
  /** The longest wait of all. Default 30,000. */
  maxDelayMs?: number | undefined;
  /** A connection that lived this long makes the waits short again. Default 5,000. */
  stableAfterMs?: number | undefined;
  /** A try without an answer is given up after this time. Default 10,000. */
  connectTimeoutMs?: number | undefined;
  /** How many messages wait while not open; `send` refuses more. Default 100. */
  maxQueuedMessages?: number | undefined;
  /** While open, `send` refuses when the socket holds more unsent bytes. Default 1 MiB. */
  maxBufferedBytes?: number | undefined;
  /** Default: the global `WebSocket`. */
  WebSocketClass?: (new (url: string) => WebSocket) | undefined;
}

/** What follows the type in `send`: a payload that may be empty can be left out. */
export type PayloadArguments<Payload> = {} extends Payload ? [payload?: Payload] : [payload: Payload];

/** Whether a close code means that another try cannot succeed. */
export function isTerminalCode(code: number): boolean;

/**
 * The wait before a retry: exponential with full jitter.
 *
 * @param failures How many tries failed since the last stable connection, from 0.
 */
export function retryDelayMs(failures: number, baseDelayMs: number, maxDelayMs: number): number;

/**
 * Makes a client and starts its first try.
 *
 * @param url `ws:`, `wss:`, `http:` or `https:`; in a browser also a path on the page's own origin.
 * @throws {TypeError | DOMException} If the URL is not one, or this program has no `WebSocket`.
 */
export function connect<Incoming extends object = ServerMessages, Outgoing extends object = ClientMessages>(
  url: string | URL,
  options?: RealtimeOptions,
): RealtimeClient<Incoming, Outgoing>;

/**
 * One connection that is made again when it is lost. `Incoming` and `Outgoing` have the payload of
 * each type of message from and to the server.
 */
export class RealtimeClient<Incoming extends object = ServerMessages, Outgoing extends object = ClientMessages> {
  constructor(url: string | URL, options?: RealtimeOptions);

  get state(): ConnectionState;
  get status(): ConnectionStatus;

  /** How many messages wait for the next connection. */
  get queuedMessages(): number;

  /**
   * Calls `listener` with the payload of each message of this type; a missing payload is `{}`.
   * A listener that throws is reported on the console and disturbs nobody else. Each call is a
   * subscription of its own; all of them end with the connection, that is when it is `closed`.
   *
   * NOTE: the payload is what the server sent; the types are a promise that nothing here checks.
   *
   * @returns Ends the subscription.
   */
  on<Type extends keyof Incoming & string>(type: Type, listener: (payload: Incoming[Type]) => void): () => boolean;

  /**
   * Calls `listener` on each change of the status; read `status` for the present one.
   *
   * @returns Ends the subscription.
   */
  onStatus(listener: (status: ConnectionStatus) => void): () => boolean;

  /**
   * Calls `listener` when the server says whether all that was missed has been sent: after a
   * reconnection, and where the server itself has lost something. With `recovered: false` nothing of
   * what was missed was sent, and what is shown may be out of date.
   *
   * @returns Ends the subscription.
   */
  onRecovery(listener: (recovery: { readonly recovered: boolean }) => void): () => boolean;

  /**
   * Sends a message now, or keeps it for the next connection while there is none. What was kept goes
   * out first, in order, before the listeners of `onStatus` hear of `open`.
   *
   * NOTE: the protocol has no receipts. `true` means taken, not delivered: what was written to a
   * connection that breaks at that moment is lost.
   *
   * @returns Whether the message was taken: not once closed, nor when too much waits already.
   */
  send<Type extends keyof Outgoing & string>(type: Type, ...payload: PayloadArguments<Outgoing[Type]>): boolean;

  /** Ends the wait for the next try; without effect in any state but `waiting`. Needs no `this`. */
  readonly retryNow: () => void;

  /** Begins another connection where the present one stands; without effect in any state but `open`. */
  reconnect(): void;

  /**
   * Ends the connection for ever and forgets what is queued. No message is heard any more.
   *
   * @param code 1000 or 3000 to 4999; by default 1000.
   * @param reason At most 123 bytes of UTF-8.
   * @throws {DOMException} If the socket refuses the code or the reason; then nothing has changed.
   */
  close(code?: number, reason?: string): void;
}

// --- Generated by `make asyncapi` from here on: change messages.py instead. ---

/** Payload of `clientStartTyping` and `clientStopTyping`: empty. */
export type NoPayload = Record<string, never>;

/** Payload of `clientSendMessage`: a text for the room. */
export interface SendMessage {
  text: string;
}

export interface ServerError {
  /** A word for programs: `unknownMessage`, `invalidPayload`, `tooManyMessages`, or one of a handler's own. */
  code: string;
  /** A sentence for people. */
  error: string;
  /** Where in the payload, if it is about one place. */
  field?: string;
}

export interface ServerNewMessage {
  /** The user's name. */
  user: string;
  text: string;
}

export interface ServerPosition {
  /** Names this connection. A client that comes back gives it as `connection` in the URL's query, so that it is not given what it said to the others. */
  connection: string;
  /** Whether all that was missed has been sent before this. Where it is `false`, nothing of it has: fetch the state anew. It is left out on a first visit. */
  recovered?: boolean;
}

export interface ServerRoomState {
  /** Each user once; the joining user is last. */
  users: Array<string>;
  /** The joining user's name. */
  you: string;
}

export interface ServerSystemAnnouncement {
  text: string;
}

export interface ServerSystemMessage {
  text: string;
}

export interface ServerUserJoined {
  /** The user's name. */
  user: string;
}

export interface ServerUserLeft {
  /** The user's name. */
  user: string;
}

export interface ServerUserTyping {
  /** The user's name. */
  user: string;
  isTyping: boolean;
}

/** `{{ cookiecutter.websocket_path }}/{room_name}` */
export interface {{ cookiecutter.resource_name }}ClientMessages {
  /** Send a text to all clients in the room, including the sender. */
  clientSendMessage: SendMessage;
  /** Notify the other clients that the user is typing. */
  clientStartTyping: NoPayload;
  /** Notify the other clients that the user has stopped typing. */
  clientStopTyping: NoPayload;
}

export type ClientMessages = {{ cookiecutter.resource_name }}ClientMessages;

/** `{{ cookiecutter.websocket_path }}/{room_name}` */
export interface {{ cookiecutter.resource_name }}ServerMessages {
  /** Where a room with history stands, told to who joins it, and where messages may be missing. */
  serverPosition: ServerPosition;
  /** A message from the service to one user, such as a welcome. */
  serverSystemMessage: ServerSystemMessage;
  /** The users in the room, sent to each joining client. */
  serverRoomState: ServerRoomState;
  /** A user has joined: the user's first connection to the room is open. */
  serverUserJoined: ServerUserJoined;
  /** A user has left: the user's last connection to the room has ended. */
  serverUserLeft: ServerUserLeft;
  /** A user has sent a message to the room. */
  serverNewMessage: ServerNewMessage;
  /** A user has started or stopped typing. */
  serverUserTyping: ServerUserTyping;
  /** An announcement from the service to all rooms. */
  serverSystemAnnouncement: ServerSystemAnnouncement;
  /** The answer to one message of this client that could not be used; the connection lives on. */
  serverError: ServerError;
}

export type ServerMessages = {{ cookiecutter.resource_name }}ServerMessages;
