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
  state: ConnectionState;
  /** When the next try begins, on the clock of `Date.now()`; only while `waiting`. */
  nextTryAtMs: number | null;
  /** The close code that led here; only while `waiting` or `closed`. */
  code: number | null;
  /** The reason that came with the code, often empty. */
  reason: string;
}

export interface RealtimeOptions {
  /** The longest wait before the first retry; it doubles with each failure. Default 500. */
  baseDelayMs?: number;
  /** The longest wait of all. Default 30,000. */
  maxDelayMs?: number;
  /** A connection that lived this long makes the waits short again. Default 5,000. */
  stableAfterMs?: number;
  /** A try without an answer is given up after this time. Default 10,000. */
  connectTimeoutMs?: number;
  /** How many messages wait while not open; `send` refuses more. Default 100. */
  maxQueuedMessages?: number;
  /** While open, `send` refuses when the socket holds more unsent bytes. Default 1 MiB. */
  maxBufferedBytes?: number;
  /** Default: the global `WebSocket`. */
  WebSocketClass?: new (url: string) => WebSocket;
}

/** Whether a close code means that another try cannot succeed. */
export function isTerminalCode(code: number): boolean;

/** The wait before a retry after so many failures: exponential, with full jitter. */
export function retryDelayMs(failures: number, baseDelayMs: number, maxDelayMs: number): number;

/**
 * Makes a client and starts its first try.
 *
 * @param url `ws:`, `wss:`, `http:` or `https:`; in a browser also a path on the page's own origin.
 */
export function connect<
  Incoming extends object = ServerMessages,
  Outgoing extends object = ClientMessages,
>(url: string | URL, options?: RealtimeOptions): RealtimeClient<Incoming, Outgoing>;

/** A payload can be left out where none of its fields is required. */
type PayloadArgument<Payload> = Record<string, never> extends Payload ? [payload?: Payload] : [payload: Payload];

export class RealtimeClient<
  Incoming extends object = ServerMessages,
  Outgoing extends object = ClientMessages,
> {
  constructor(url: string | URL, options?: RealtimeOptions);

  get state(): ConnectionState;
  get status(): ConnectionStatus;
  /** How many messages wait for the next connection. */
  get queuedMessages(): number;

  /** Calls `listener` with the payload of each message of this type. What it returns ends that. */
  on<Type extends keyof Incoming & string>(
    type: Type,
    listener: (payload: Incoming[Type]) => void,
  ): () => boolean;

  /** Calls `listener` on each change of the status. What it returns ends that. */
  onStatus(listener: (status: ConnectionStatus) => void): () => boolean;

  /** Sends a message, or keeps it for the next connection; `false` where it was not taken. */
  send<Type extends keyof Outgoing & string>(
    type: Type,
    ...payload: PayloadArgument<Outgoing[Type]>
  ): boolean;

  /** Ends the wait for the next try; without effect in any state but `waiting`. */
  retryNow(): void;

  /** Ends the connection for ever; code 1000 by default, or 3000 to 4999. */
  close(code?: number, reason?: string): void;
}

// --- Made by `make asyncapi` from here on: make changes in messages.py. ---

/** Payload of `clientStartTyping` and `clientStopTyping`: nothing. */
export type NoPayload = Record<string, never>;

/** Payload of `clientSendMessage`: say something to the room. */
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
  /** Who it is. */
  user: string;
  text: string;
}

export interface ServerRoomState {
  /** Each user once; the newcomer comes last. */
  users: Array<string>;
  /** The newcomer's own name there. */
  you: string;
}

export interface ServerSystemAnnouncement {
  text: string;
}

export interface ServerSystemMessage {
  text: string;
}

export interface ServerUserJoined {
  /** Who it is. */
  user: string;
}

export interface ServerUserLeft {
  /** Who it is. */
  user: string;
}

export interface ServerUserTyping {
  /** Who it is. */
  user: string;
  isTyping: boolean;
}

/** `{{ cookiecutter.websocket_path }}/{room_name}` */
export interface {{ cookiecutter.resource_name }}ClientMessages {
  /** Say something to everybody in the room, the sender too. */
  clientSendMessage: SendMessage;
  /** Tell the others that the user types. */
  clientStartTyping: NoPayload;
  /** Tell the others that the user has stopped. */
  clientStopTyping: NoPayload;
}

export type ClientMessages = {{ cookiecutter.resource_name }}ClientMessages;

/** `{{ cookiecutter.websocket_path }}/{room_name}` */
export interface {{ cookiecutter.resource_name }}ServerMessages {
  /** The service says something to one user, such as a welcome. */
  serverSystemMessage: ServerSystemMessage;
  /** Who is in the room, told to each newcomer. */
  serverRoomState: ServerRoomState;
  /** A user has come: the first connection of this user in the room. */
  serverUserJoined: ServerUserJoined;
  /** A user has gone: the last connection of this user in the room has ended. */
  serverUserLeft: ServerUserLeft;
  /** A user has said something. */
  serverNewMessage: ServerNewMessage;
  /** A user has begun or stopped to type. */
  serverUserTyping: ServerUserTyping;
  /** The service says something to everybody. */
  serverSystemAnnouncement: ServerSystemAnnouncement;
  /** The answer to one message of this client that could not be used; the connection lives on. */
  serverError: ServerError;
}

export type ServerMessages = {{ cookiecutter.resource_name }}ServerMessages;
