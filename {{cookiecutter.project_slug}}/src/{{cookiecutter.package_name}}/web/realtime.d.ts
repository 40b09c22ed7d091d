/**
 * Types of realtime.js and of its messages, for editors and TypeScript.
 *
 *     const client = connect("/ws/chat/general");
 *     client.on("serverNewMessage", ({ user, text }) => show(user, text));
 *     client.send("clientSendMessage", { text: "Hello" });
 *     const reply = await client.request("clientSendMessage", { text: "Hello" });
 *     const general = connect("/ws").join("general");
 */

/**
 * - `connecting`: an attempt is in progress.
 * - `open`: messages can be sent and received.
 * - `waiting`: the connection is lost; the next attempt is at `nextTryAtMs`.
 * - `closed`: the final state, after `close()` or a terminal close code.
 */
export type ConnectionState = "connecting" | "open" | "waiting" | "closed";

export interface ConnectionStatus {
  readonly state: ConnectionState;
  /** The time of the next attempt, as in `Date.now()`; only while `waiting`. */
  readonly nextTryAtMs: number | null;
  /** The close code; only while `waiting` or `closed`. */
  readonly code: number | null;
  /** The close reason, often empty; `retry=1.7` with 1012 is the delay in seconds until `nextTryAtMs`. */
  readonly reason: string;
}

/** A missing or `undefined` option has its default. */
export interface RealtimeOptions {
  /** The longest delay before the first retry; it doubles with each failure. Default 500. */
  baseDelayMs?: number | undefined;
  /** The upper bound of the client's own delays: a server that stops may ask for another one. Default 30,000. */
  maxDelayMs?: number | undefined;
  /** A connection that lasts this long resets the delay. Default 5,000. */
  stableAfterMs?: number | undefined;
  /** The timeout of an attempt. Default 10,000. */
  connectTimeoutMs?: number | undefined;
  /**
   * Where the server has announced a heartbeat: the longest time without a message, after which the client
   * reconnects. Default: twice the announced interval and 5,000, so 45,000 for 20 s.
   */
  heartbeatTimeoutMs?: number | undefined;
  /**
   * Where the server has announced a heartbeat: the time for an answer to `clientPing`, which is sent when
   * the network is online again and when the page is shown again. Default 3,000.
   */
  probeTimeoutMs?: number | undefined;
  /** The size of the queue while not open; `send` refuses more. Default 100. */
  maxQueuedMessages?: number | undefined;
  /** While open, `send` refuses while the socket buffers more bytes. Default 1 MiB. */
  maxBufferedBytes?: number | undefined;
  /**
   * Returns a one-time ticket for a handshake, which the URL's query passes on as `ticket`. Called before each
   * attempt, within `connectTimeoutMs`. A rejection is a failed attempt, which is retried; `null`, or a rejection
   * with `{ terminal: true }`, closes the client with 4401. Default: no ticket.
   */
  ticket?: (() => Promise<string | null>) | undefined;
  /**
   * Returns a new token or ticket of the same user, when the session is about to expire. A rejection, and a
   * server that cannot check the result, are retried with the delays of a connection until the session
   * expires; `null`, or a rejection with `{ terminal: true }`, is not. Default: the session is not refreshed.
   */
  refresh?: (() => Promise<string | null>) | undefined;
  /** Default: the global `WebSocket`. */
  WebSocketClass?: (new (url: string) => WebSocket) | undefined;
}

/** The arguments of `send` after the type: a payload without required fields is optional. */
export type PayloadArguments<Payload> = {} extends Payload ? [payload?: Payload] : [payload: Payload];

export interface RequestOptions {
  /** The longest time until the reply, including the time in the queue. Default 10,000; 60,000 with `once`. */
  timeoutMs?: number | undefined;
  /** Whether the request survives lost connections and is handled once: for a handler with `once=True`. Default false. */
  once?: boolean | undefined;
}

/** The arguments of `request` after the type. */
export type RequestArguments<Payload> = {} extends Payload
  ? [payload?: Payload, options?: RequestOptions]
  : [payload: Payload, options?: RequestOptions];

/** The reply to a request: a message that its handler returns, or `serverAck` once it was handled. */
export type Reply<Type extends string, Incoming extends object, Answers extends object> = Type extends keyof Answers
  ? { [Name in Answers[Type] & keyof Incoming]: { readonly type: Name; readonly payload: Incoming[Name] } }[Answers[Type] &
      keyof Incoming]
  : { readonly type: string; readonly payload: any };

/** What a message of a room with history has beside its payload. */
export interface MessageInfo {
  /** Its position in the room. */
  readonly id?: string;
  /** The time at which it was published, as in `Date.now()`, from the server's clock. */
  readonly at?: number;
}

/** A request that has failed: `code` tells why, and `message` is a sentence for the user. */
export class RequestError extends Error {
  constructor(code: string, message: string, field?: string);
  /**
   * That of the server's error; or `timeout` or `disconnected`, after which the request may have taken effect; or
   * `notSent`, after which it has not.
   */
  readonly code: string;
  /** The path of the invalid value in the payload, if there is one. */
  readonly field: string | undefined;
}

/** Return whether a close code rules out a retry. */
export function isTerminalCode(code: number): boolean;

/**
 * Return the delay before a retry: exponential backoff with full jitter.
 *
 * @param failures The number of failed attempts since the last stable connection.
 */
export function retryDelayMs(failures: number, baseDelayMs: number, maxDelayMs: number): number;

/**
 * Create a client and start its first attempt.
 *
 * @param url `ws:`, `wss:`, `http:` or `https:`; in a browser also a path on the page's own origin.
 * @throws {TypeError | DOMException} If the URL is invalid, or no `WebSocket` is available.
 */
export function connect<
  Incoming extends object = ServerMessages,
  Outgoing extends object = ClientMessages,
  Answers extends object = Replies,
>(url: string | URL, options?: RealtimeOptions): RealtimeClient<Incoming, Outgoing, Answers>;

/**
 * A connection that reconnects when it is lost. `Incoming` and `Outgoing` map the message types from and
 * to the server to their payloads, and `Answers` the types of requests to those of their replies.
 */
export class RealtimeClient<
  Incoming extends object = ServerMessages,
  Outgoing extends object = ClientMessages,
  Answers extends object = Replies,
> {
  constructor(url: string | URL, options?: RealtimeOptions);

  get state(): ConnectionState;
  get status(): ConnectionStatus;

  /** The number of messages queued for the next connection, until the connection has been checked, or for the reply to an earlier request. */
  get queuedMessages(): number;

  /**
   * Join a room on a route for several rooms per connection, such as `/ws`. The room is joined again after each
   * reconnection. One that the server refuses for good (see `isTerminalCode`) is `closed` with the code and the reason;
   * the connection and the other rooms are not affected. A room that is joined already is returned as it is.
   *
   * @throws {Error} If the client is closed, or is a room itself.
   */
  join(room: string): RealtimeRoom<Incoming, Outgoing, Answers>;

  /**
   * Call `listener` with the payload of each message of this type; a missing payload is `{}`.
   * An exception in a listener is logged to the console and does not affect other listeners. Each call
   * is a separate subscription; all subscriptions end when the connection is `closed`.
   *
   * NOTE: payloads are not validated against their types.
   *
   * @returns Ends the subscription.
   */
  on<Type extends keyof Incoming & string>(
    type: Type,
    listener: (payload: Incoming[Type], info: MessageInfo) => void,
  ): () => boolean;

  /**
   * Call `listener` on each change of the status; `status` has the current one.
   *
   * @returns Ends the subscription.
   */
  onStatus(listener: (status: ConnectionStatus) => void): () => boolean;

  /**
   * Call `listener` with the outcome of a recovery: after a reconnection, and when the server itself has
   * lost messages. With `recovered: false` messages are missing, and the application's state may
   * be out of date.
   *
   * @returns Ends the subscription.
   */
  onRecovery(listener: (recovery: { readonly recovered: boolean }) => void): () => boolean;

  /**
   * Send a message, or queue it for the next connection. Queued messages are sent first, in order,
   * before the `onStatus` listeners receive `open`. While the client waits for the answer to `clientPing`,
   * messages are queued as well, because the connection may be dead.
   *
   * NOTE: `true` means accepted, not delivered: a message written to a connection that is just being lost
   * does not arrive. `request` tells.
   *
   * @returns Whether the message was accepted: `false` when closed or when a queue limit is reached.
   */
  send<Type extends keyof Outgoing & string>(type: Type, ...payload: PayloadArguments<Outgoing[Type]>): boolean;

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
   * @throws {RequestError} The server's error, or there was no reply.
   */
  request<Type extends keyof Outgoing & string>(
    type: Type,
    ...payload: RequestArguments<Outgoing[Type]>
  ): Promise<Reply<Type, Incoming, Answers>>;

  /**
   * Answer the server's requests of this type with what `answer` returns, or its promise: `self.request` in Python. An
   * exception is logged to the console, and its message is sent. Without a function the server is told so at once.
   *
   * @param answer It replaces an earlier one; null removes it.
   */
  answer<Type extends keyof Incoming & string>(
    type: Type,
    answer: ((payload: Incoming[Type]) => unknown) | null,
  ): void;

  /** Retry at once; no effect in any state but `waiting`. Usable without `this`. */
  readonly retryNow: () => void;

  /** Replace the current connection with a new one; no effect in any state but `open`. */
  reconnect(): void;

  /**
   * Close permanently: queued messages are discarded and no further messages are received.
   *
   * @param code 1000 or 3000 to 4999; by default 1000.
   * @param reason At most 123 bytes of UTF-8.
   * @throws {DOMException} If the code or the reason is invalid; the connection is unchanged.
   */
  close(code?: number, reason?: string): void;
}

/** A room on the connection of another client, with its own messages, positions and status. */
export class RealtimeRoom<
  Incoming extends object = ServerMessages,
  Outgoing extends object = ClientMessages,
  Answers extends object = Replies,
> extends RealtimeClient<Incoming, Outgoing, Answers> {
  private constructor();

  /** Leave the room for good: queued messages are discarded and no further messages are received. */
  leave(): void;
}

// --- Generated by `make asyncapi` from here on: change messages.py instead. ---

/** Payload of `clientDeleteMessage`: a message of this user, or of any user for moderators. */
export interface DeleteMessage {
  /** The id of a stored message of the room. */
  messageId: string;
}

/** Payload of `clientEditMessage`: another text for a message of this user. */
export interface EditMessage {
  /** The id of a stored message of the room. */
  messageId: string;
  text: string;
}

/** The payload of `clientJoin`: one room, or several at once. */
export interface JoinPayload {
  /** The name of the room. */
  room?: string;
  /** Its positions, as in `rooms`. */
  since?: Array<string>;
  /** Its earlier connections, as in `rooms`. */
  connection?: Array<string>;
  /** Several rooms instead, each of which has a reply of its own. */
  rooms?: Array<JoinRoom>;
}

/** A room to join, and what a reconnecting client has received of it. */
export interface JoinRoom {
  /** The name of the room, as in the URL of a connection of its own. */
  room: string;
  /** The last positions (`id`) that the client has received. */
  since?: Array<string>;
  /** The ids of its earlier connections to the room, from `serverPosition`. */
  connection?: Array<string>;
}

/** A room of the service. */
export interface KnownRoom {
  /** Its name. */
  room: string;
  /** The users in it now. */
  users: number;
  /** The messages that this user has not read, 100 for more; 0 in a room that this user has never read. */
  unread: number;
}

/** The payload of `clientLeave`. */
export interface LeavePayload {
  /** The name of the room. */
  room: string;
}

/** Payload of `clientLoadHistory`: the last messages of the room, or the last ones before another message. */
export interface LoadHistory {
  /** The id of a stored message, unique in all rooms. The ids of a room have the order of its messages. Absent if the service stores no messages. */
  before?: string;
}

/** Payload of `clientMarkRead`: this user has read the room up to a message. */
export interface MarkRead {
  /** The id of a stored message of the room. */
  messageId: string;
}

/** Payload of `clientStartTyping`, `clientStopTyping` and `clientLoadRooms`: empty. */
export type NoPayload = Record<string, never>;

/** A message that was sent earlier. */
export interface PastMessage {
  /** The id of a stored message, unique in all rooms. The ids of a room have the order of its messages. Absent if the service stores no messages. */
  messageId: string;
  /** The user's name, for display. Several users may have the same one. */
  user: string;
  /** The user's id, by which users differ. */
  userId: string;
  text: string;
  /** When it was sent, in Unix milliseconds. */
  at: number;
  /** The number of changes of the message so far. Changes may arrive in another order, or twice: apply one only if its revision is higher than that of the change or of the page before it. */
  revision: number;
  /** Whether its text was changed. */
  edited: boolean;
  replyTo?: Quoted;
  /** In the order of their numbers. */
  reactions?: Array<Reaction>;
}

/** The message to which another one replies. */
export interface Quoted {
  /** The id of a stored message, unique in all rooms. The ids of a room have the order of its messages. Absent if the service stores no messages. */
  messageId: string;
  /** The user's name, for display. Several users may have the same one. */
  user: string;
  /** The user's id, by which users differ. */
  userId: string;
  /** The beginning of its text. Only in a page of the past: a live message goes into caches, where the text could not be deleted with the message itself. */
  text?: string;
}

/** Payload of `clientReact`: add a reaction of this user to a message, or take it back. */
export interface React {
  /** The id of a stored message of the room. */
  messageId: string;
  /** One emoji. */
  reaction: string;
  /** `false` to take it back. */
  on: boolean;
}

/** The users who react to a message with one emoji. */
export interface Reaction {
  /** One emoji. */
  reaction: string;
  /** Their number. */
  count: number;
  /** Whether this user is one of them. */
  mine: boolean;
}

/** The payload of `clientRefreshSession`. */
export interface RefreshSession {
  /** A new token of the user who has opened the connection. */
  token: string;
}

/** The payload of `clientReply`: a result, or a code and a sentence if there is none. */
export interface ReplyPayload {
  /** What the server has asked for. */
  result?: unknown;
  /** An identifier for programs if there is no result; empty otherwise. */
  code?: string;
  /** The reason, beside a code. */
  error?: string;
}

/** A user in a room. */
export interface RoomUser {
  /** The user's name, for display. Several users may have the same one. */
  user: string;
  /** The user's id, by which users differ. */
  userId: string;
}

/** Payload of `clientSendMessage`: a text for the room. */
export interface SendMessage {
  text: string;
}

/** Payload of `clientSendReply`: a text for the room that replies to a message. */
export interface SendReply {
  /** The id of a stored message of the room. */
  messageId: string;
  text: string;
}

export type ServerAck = Record<string, never>;

export interface ServerError {
  /** An identifier for programs: `unknownMessage`, `invalidPayload`, `tooManyMessages`, `messageTooLarge`, `forbidden`, `unavailable`, `timeout`, `interrupted`, `internal`, or one of the application's own. */
  code: string;
  /** A sentence for the user. */
  error: string;
  /** The path of the invalid value in the payload, if there is one. */
  field?: string;
  /** The close code with which a room refuses a `clientJoin`, as it would close a connection of its own. */
  closeCode?: number;
}

export interface ServerHistory {
  messages: Array<PastMessage>;
  /** Whether there are earlier messages. */
  hasMore: boolean;
  /** The id of the message up to which this user has read the room; `null` if that is not known. */
  readTo?: string | null;
}

export type ServerJoined = Record<string, never>;

export interface ServerLeft {
  /** The close code that a connection of its own would have; 1000 after `clientLeave`. */
  code: number;
  /** A sentence for the user, often empty. */
  reason: string;
}

export interface ServerMessageDeleted {
  /** The id of a stored message, unique in all rooms. The ids of a room have the order of its messages. Absent if the service stores no messages. */
  messageId: string;
  /** The number of changes of the message so far. Changes may arrive in another order, or twice: apply one only if its revision is higher than that of the change or of the page before it. */
  revision: number;
}

export interface ServerMessageEdited {
  /** The id of a stored message, unique in all rooms. The ids of a room have the order of its messages. Absent if the service stores no messages. */
  messageId: string;
  text: string;
  /** The number of changes of the message so far. Changes may arrive in another order, or twice: apply one only if its revision is higher than that of the change or of the page before it. */
  revision: number;
}

export interface ServerNewMessage {
  /** The user's name, for display. Several users may have the same one. */
  user: string;
  /** The user's id, by which users differ. */
  userId: string;
  text: string;
  /** The id of a stored message, unique in all rooms. The ids of a room have the order of its messages. Absent if the service stores no messages. */
  messageId?: string;
  replyTo?: Quoted;
}

export type ServerPong = Record<string, never>;

export interface ServerPosition {
  /** The id of this connection. A reconnecting client passes it as `connection` in the URL's query, with those of up to seven earlier connections, so that messages which excluded them are not sent to it again. Absent in a repeated position. */
  connection?: string;
  /** Whether all missed messages have been sent before this one. If it is `false`, some are missing, though the last ones may have been sent: fetch the state again. Absent on a first visit. */
  recovered?: boolean;
  /** An idle client receives this message again after this time. If nothing arrives for more than twice as long, the connection is dead. Absent without heartbeats. */
  heartbeatSeconds?: number;
  /** On a connection that is in several rooms, a repeated position has those of all rooms with history instead of an `id`. */
  rooms?: Record<string, Array<string>>;
}

export interface ServerPresenceChanged {
  /** Users that have joined, in this order; not all of them if `moreJoined` is present. */
  joined: Array<Record<string, unknown>>;
  /** Users that have left; not all of them if `moreLeft` is present. */
  left: Array<Record<string, unknown>>;
  /** The number of users in the room now. */
  count: number;
  /** The number of further users that have joined. */
  moreJoined?: number;
  /** The number of further users that have left. */
  moreLeft?: number;
  /** The first users in the room, in the order in which they joined: all of them unless `count` is higher. Present where `left` is not complete, and where the room is no longer large. */
  users?: Array<Record<string, unknown>>;
}

export interface ServerReaction {
  /** The id of a stored message, unique in all rooms. The ids of a room have the order of its messages. Absent if the service stores no messages. */
  messageId: string;
  /** One emoji. */
  reaction: string;
  /** The user's name, for display. Several users may have the same one. */
  user: string;
  /** The user's id, by which users differ. */
  userId: string;
  /** `false` if it was taken back. */
  on: boolean;
  /** The users who react like this now. */
  count: number;
  /** The number of changes of the message so far. Changes may arrive in another order, or twice: apply one only if its revision is higher than that of the change or of the page before it. */
  revision: number;
}

export interface ServerReadMarker {
  /** The room's name. */
  room: string;
  /** The id of a stored message, unique in all rooms. The ids of a room have the order of its messages. Absent if the service stores no messages. */
  messageId: string;
}

export interface ServerRoomState {
  /** Each user once, in the order in which they joined; the joining user is last. */
  users: Array<RoomUser>;
  /** The joining user. */
  you: RoomUser;
  /** The number of users in the room, including the joining user. */
  count: number;
  /** `true` if there are more users than `users` lists; absent otherwise. `serverPresenceChanged` may then announce joins and leaves. */
  truncated?: boolean;
}

export interface ServerRooms {
  rooms: Array<KnownRoom>;
}

export interface ServerSessionExpiring {
  /** The time that is left. */
  expiresInSeconds: number;
}

export interface ServerSessionRefreshed {
  /** The time until the new end; `null` for a session without an end. */
  expiresInSeconds: number | null;
}

export interface ServerSystemAnnouncement {
  text: string;
}

export interface ServerSystemMessage {
  text: string;
}

export interface ServerUserJoined {
  /** The user's name, for display. Several users may have the same one. */
  user: string;
  /** The user's id, by which users differ. */
  userId: string;
}

export interface ServerUserLeft {
  /** The user's name, for display. Several users may have the same one. */
  user: string;
  /** The user's id, by which users differ. */
  userId: string;
}

export interface ServerUserTyping {
  /** The user's name, for display. Several users may have the same one. */
  user: string;
  /** The user's id, by which users differ. */
  userId: string;
  isTyping: boolean;
}

/** `{{ cookiecutter.websocket_path }}/{room_name}` */
export interface {{ cookiecutter.resource_name }}ClientMessages {
  /** Store another text of a message of this user, and send it to all clients in the room. */
  clientEditMessage: EditMessage;
  /** Delete a message of this user, or any for a moderator, from the store and from the room's history. */
  clientDeleteMessage: DeleteMessage;
  /** Store a reply, and send it to all clients in the room, including the sender. Handled once for each `ref` of a client, whose URL has its id as `client`. */
  clientSendReply: SendReply;
  /** Add a reaction or take it back, and tell all clients in the room its new number. At most 5 per second and 20 at once. */
  clientReact: React;
  /** Store how far this user has read the room, and tell the user's other windows. At most 2 per second and 20 at once. */
  clientMarkRead: MarkRead;
  /** Store a text, and send it to all clients in the room, including the sender. Handled once for each `ref` of a client, whose URL has its id as `client`. */
  clientSendMessage: SendMessage;
  /** Show the other clients that the user is typing, until it stops or says nothing more of it for 6 s. */
  clientStartTyping: NoPayload;
  /** Show the other clients that the user has stopped typing. */
  clientStopTyping: NoPayload;
  /** Reply with a page of the room's past. At most 5 per second and 20 at once. */
  clientLoadHistory: LoadHistory;
  /** Reply with the rooms that this user may join. At most 1 per second and 10 at once. */
  clientLoadRooms: NoPayload;
  /** Continue the connection with a new token of its user; it stays open, but leaves a room that refuses the user. */
  clientRefreshSession: RefreshSession;
  /** Ask for a reply at once, to check the connection. Counts as a message of the client. */
  clientPing: Record<string, unknown>;
  /** Reply to a request of the server: a message to this client that has a `ref`, which the reply repeats. */
  clientReply: ReplyPayload;
}

/** `/ws`: the messages besides those of its rooms. */
export interface {{ cookiecutter.resource_name }}sClientMessages {
  /** Join rooms. Each has a reply of its own with its `room` beside the payload: `serverJoined`, or `serverError` if it is refused. */
  clientJoin: JoinPayload;
  /** Leave a room. The reply is `serverLeft`. */
  clientLeave: LeavePayload;
}

export type ClientMessages = {{ cookiecutter.resource_name }}ClientMessages & {{ cookiecutter.resource_name }}sClientMessages;

/** `{{ cookiecutter.websocket_path }}/{room_name}` */
export interface {{ cookiecutter.resource_name }}ServerMessages {
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
  /** A message of the room has another text. */
  serverMessageEdited: ServerMessageEdited;
  /** A message of the room has been deleted. */
  serverMessageDeleted: ServerMessageDeleted;
  /** A user has reacted to a message of the room, or taken a reaction back. */
  serverReaction: ServerReaction;
  /** This user has read a room up to a message, in this window or in another one. */
  serverReadMarker: ServerReadMarker;
  /** A page of the room's stored messages, the oldest first. */
  serverHistory: ServerHistory;
  /** Rooms that this user may join: those with users in them, and those that this user has read. */
  serverRooms: ServerRooms;
  /** A user has started or stopped typing. */
  serverUserTyping: ServerUserTyping;
  /** An announcement from the service to all rooms. */
  serverSystemAnnouncement: ServerSystemAnnouncement;
  /** Users have joined or left a large room: the net difference since the last message of this type. */
  serverPresenceChanged: ServerPresenceChanged;
  /** The position of a room with history, sent after a join and wherever messages may be missing, and repeated to idle clients. */
  serverPosition: ServerPosition;
  /** The reply to a message with a `ref` that was handled and has no other reply. */
  serverAck: ServerAck;
  /** The reply to `clientRefreshSession`: the connection goes on. */
  serverSessionRefreshed: ServerSessionRefreshed;
  /** The session of this client ends soon, and its connection with it: refresh it in time. */
  serverSessionExpiring: ServerSessionExpiring;
  /** The reply to a message of this client that could not be handled; the connection stays open. */
  serverError: ServerError;
  /** The reply to a ping of the client. */
  serverPong: ServerPong;
}

/** `/ws`: the messages besides those of its rooms. */
export interface {{ cookiecutter.resource_name }}sServerMessages {
  /** The reply to `clientJoin` for one room: the messages of the room follow, the missed ones first. */
  serverJoined: ServerJoined;
  /** The client is no longer in a room, and gets no more messages of it; the connection stays open. */
  serverLeft: ServerLeft;
}

export type ServerMessages = {{ cookiecutter.resource_name }}ServerMessages & {{ cookiecutter.resource_name }}sServerMessages;

/** The types of the replies in `{{ cookiecutter.websocket_path }}/{room_name}`. */
export interface {{ cookiecutter.resource_name }}Replies {
  clientEditMessage: "serverAck";
  clientDeleteMessage: "serverAck";
  clientSendReply: "serverAck";
  clientReact: "serverAck";
  clientMarkRead: "serverAck";
  clientSendMessage: "serverAck";
  clientStartTyping: "serverAck";
  clientStopTyping: "serverAck";
  clientLoadHistory: "serverHistory";
  clientLoadRooms: "serverRooms";
  clientRefreshSession: "serverSessionRefreshed";
  clientPing: "serverPong";
}

/** The types of the replies in `/ws`. */
export interface {{ cookiecutter.resource_name }}sReplies {
  clientEditMessage: "serverAck";
  clientDeleteMessage: "serverAck";
  clientSendReply: "serverAck";
  clientReact: "serverAck";
  clientMarkRead: "serverAck";
  clientSendMessage: "serverAck";
  clientStartTyping: "serverAck";
  clientStopTyping: "serverAck";
  clientLoadHistory: "serverHistory";
  clientLoadRooms: "serverRooms";
  clientRefreshSession: "serverSessionRefreshed";
  clientJoin: "serverJoined";
  clientLeave: "serverLeft";
  clientPing: "serverPong";
}

export interface Replies {
  clientEditMessage: "serverAck";
  clientDeleteMessage: "serverAck";
  clientSendReply: "serverAck";
  clientReact: "serverAck";
  clientMarkRead: "serverAck";
  clientSendMessage: "serverAck";
  clientStartTyping: "serverAck";
  clientStopTyping: "serverAck";
  clientLoadHistory: "serverHistory";
  clientLoadRooms: "serverRooms";
  clientRefreshSession: "serverSessionRefreshed";
  clientPing: "serverPong";
  clientJoin: "serverJoined";
  clientLeave: "serverLeft";
}
