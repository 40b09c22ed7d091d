/** The chat page: creates its parts and connects them. Each part owns its state and its elements. */

import { RequestError } from "../realtime.js";
import { MessageActions } from "./actions.js";
import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { ComposerContext } from "./context.js";
import { Conversation } from "./conversation.js";
import { Directory } from "./directory.js";
import { Editing } from "./editing.js";
import { withLocalTimes } from "./elements.js";
import { InviteHint } from "./invite.js";
import { Names } from "./names.js";
import { Notifications } from "./notifications.js";
import { Past } from "./past.js";
import { People } from "./people.js";
import { Reactions } from "./reactions.js";
import { Replies } from "./replies.js";
import { Requests } from "./requests.js";
import { Rooms } from "./rooms.js";
import { Session } from "./session.js";
import { SidePanel } from "./side.js";
import { TypingIndicator, TypingNotifier } from "./typing.js";
import { Unread } from "./unread.js";

/** @typedef {import("./names.js").Person} Person */
/** @typedef {import("../realtime.js").RealtimeClient} RealtimeClient */
/** @typedef {import("../realtime.js").ServerMessages} ServerMessages */

const SIGNED_OUT = 4401;
const MAX_QUEUED_MESSAGES = 100;
// For so long a service without a store knows which requests it has handled (`Limits.once_seconds`): a message that is sent
// again later would appear twice.
const ONCE_MS = 300_000;

const session = new Session({
  onEnter: enterSelectedRoom,
  onForm() {
    rooms.showSelected();
    unread.hideTitle();
  },
  onLeave(user) {
    leaveRoom();
    people.clear();
    conversation.signOut();
    rooms.showOfServer([]);
    context.end();
    composer.signOut(user.id);
    composer.showError("");
  },
  onSignOutFailed: (problem) => composer.showError(problem),
});
const rooms = new Rooms(new SidePanel(), (name) => {
  if (name !== rooms.current || connection.client === null) enterRoom(name);
});
const names = new Names();
const people = new People(session, names);
const conversation = new Conversation(session, names, {
  onSendAgain: sendMessage,
  onDiscarded() {
    showInviteHint();
    composer.focus();
  },
  onCaughtUp: () => composer.focus(),
  onTrimmed: () => past.offer(),
  hasEarlier: () => past.hasMore,
  onAdded: (entry) => unread.add(entry),
  onScroll: () => unread.update(),
});
const { list, scroller } = conversation;
list.onChange(showInviteHint);
const unread = new Unread(list, scroller);
const directory = new Directory((found) => rooms.showOfServer(found));
const past = new Past(conversation, {
  onLast: (readTo, isFirst) => unread.load(readTo, isFirst),
  onLoaded() {
    showInviteHint();
    unread.update();
  },
  onLost: (note) => conversation.addNote("system", note),
});
const inviteHint = new InviteHint();
const connection = new Connection(session, {
  onOpen(hasGap) {
    conversation.movePending("queued", "sent");
    if (hasGap) past.fillGap("Reconnected. Messages sent in the meantime are not shown here.");
  },
  onInterrupted(isLost) {
    // A message sent just before may be lost: the client sends it again, and the server knows it.
    conversation.movePending("sent", "queued");
    if (!isLost) return;
    people.showLastSeen();
    typingIndicator.clear();
  },
  onEnd: receiveEnd,
  onMissing: () => past.fillGap("Some messages are missing here: the server no longer has them."),
  onTryNow() {
    if (connection.client?.state === "waiting") connection.client.retryNow();
    else enterRoom(rooms.current);
    composer.focus();
  },
});
const notifications = new Notifications(session);
const typingIndicator = new TypingIndicator(session, names);
const typingNotifier = new TypingNotifier(connection);
const context = new ComposerContext(() => composer.write());
const composer = new Composer({
  onSend: (text) => context.send(text) ?? sendMessage(text),
  onEdit: (text) => typingNotifier.update(text),
  onStop: () => typingNotifier.stop(),
});
const requests = new Requests(connection, (problem) => composer.showError(problem));
const actions = new MessageActions(list);
new Replies({ list, actions, context, composer, session, names, onSend: sendMessage });
const reactions = new Reactions({ list, scroller, actions, requests, session });
const editing = new Editing({ list, actions, context, composer, requests });

// --- Rooms ---------------------------------------------------------------------------------------

function enterSelectedRoom() {
  rooms.selectFromHash();
  composer.focus();
}

/** @param {string} name */
function enterRoom(name) {
  leaveRoom();
  rooms.setCurrent(name);
  const isContinued = conversation.open(name);
  if (isContinued) people.showLastSeen();
  else people.clear();
  if (!isContinued) context.end();
  composer.open(session.user?.id ?? "", name);
  if (!isContinued) composer.showError("");
  showInviteHint();
  const client = connection.open(name, isContinued);
  receiveMessages(client);
  past.open(client, isContinued);
  unread.open(name, client, isContinued);
  directory.open(client);
}

function leaveRoom() {
  past.close();
  unread.close();
  directory.close();
  connection.close();
  typingNotifier.reset();
  typingIndicator.clear();
}

function showInviteHint() {
  inviteHint.show(people.isAlone && conversation.isEmpty);
}

// --- Messages ------------------------------------------------------------------------------------

/** @param {RealtimeClient} client */
function receiveMessages(client) {
  client.on("serverSystemMessage", ({ text }) => {
    // A reconnecting user has been welcomed already.
    if (!connection.isRecovering) conversation.addNote("system", text);
  });
  client.on("serverSystemAnnouncement", ({ text }) => conversation.addNote("announcement", text));
  client.on("serverRoomState", receiveRoomState);
  client.on("serverNewMessage", (message, { at }) => {
    typingIndicator.set(message, false);
    conversation.addMessage(message, at);
    showInviteHint();
  });
  client.on("serverNewMessage", (message) => notifications.receive(message, rooms.current));
  editing.receive(client);
  reactions.receive(client);
  client.on("serverUserJoined", (person) => receivePresence(person, true));
  client.on("serverUserLeft", (person) => receivePresence(person, false));
  client.on("serverPresenceChanged", (change) => receivePresenceChange(/** @type {any} */ (change)));
  client.on("serverUserTyping", (typing) => typingIndicator.set(typing, typing.isTyping));
  client.on("serverError", ({ error }) => composer.showError(withLocalTimes(error)));
}

/** @param {ServerMessages["serverRoomState"]} state */
function receiveRoomState(state) {
  if (state.you.user !== session.user?.name) session.rename(state.you.user);
  people.replace(state);
  rooms.remember();
  showInviteHint();
}

/** @param {Person} person @param {boolean} isPresent */
function receivePresence(person, isPresent) {
  if (!people.set(person, isPresent)) return;
  showInviteHint();
  if (!isPresent) typingIndicator.set(person, false);
  if (person.userId === session.user?.id) return;
  conversation.addPresence({ joined: isPresent ? [person] : [], left: isPresent ? [] : [person] });
}

/** @param {import("./roster.js").PresenceChange} change */
function receivePresenceChange(change) {
  people.change(change);
  showInviteHint();
  for (const person of change.left) typingIndicator.set(person, false);
  const joined = change.joined.filter(({ userId }) => userId !== session.user?.id);
  const { left, moreJoined = 0, moreLeft = 0 } = change;
  if (joined.length + left.length + moreJoined + moreLeft === 0) return;
  conversation.addPresence({ joined, left, moreJoined, moreLeft });
}

/**
 * @param {string} text
 * @param {import("./pending.js").TextRequest} [request]
 * @returns {boolean} Whether it was accepted; if not, the composer shows why.
 */
function sendMessage(text, request = { type: "clientSendMessage", payload: { text } }) {
  const { client } = connection;
  if (!client || client.state === "closed" || client.queuedMessages >= MAX_QUEUED_MESSAGES) {
    composer.showError(
      client?.state === "closed" ? "You are not connected." : "Too many messages are queued. Please try again later.",
    );
    return false;
  }
  submit(client, request, conversation.addPending(text, request, client.state === "open" ? "sent" : "queued"));
  showInviteHint();
  return true;
}

/** @param {RealtimeClient} client @param {import("./pending.js").TextRequest} request @param {import("./pending.js").PendingMessage} message */
async function submit(client, { type, payload }, message) {
  try {
    // A store knows the request at any time: with one, it waits for a connection as long as the page is open.
    await client.request(type, payload, { once: true, timeoutMs: past.isStored ? Infinity : ONCE_MS });
    conversation.acceptPending(message);
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    const isUnknown = ["disconnected", "interrupted", "timeout"].includes(error.code);
    conversation.failPending(message, isUnknown ? "unconfirmed" : "refused");
    if (client === connection.client && client.state !== "closed") composer.showError(withLocalTimes(error.message));
  }
}

/** @param {boolean} wasOpen @param {number | null} code @param {string} reason */
async function receiveEnd(wasOpen, code, reason) {
  const { client } = connection;
  if (code !== SIGNED_OUT) conversation.addNote("system", endText(code, reason));
  else if (!(await session.recheck())) {
    if (client === connection.client) connection.close();
  } else if (client === connection.client) {
    // The session has been renewed meanwhile, in another tab. A handshake that is refused all the same is not repeated.
    if (wasOpen) enterRoom(rooms.current);
    else conversation.addNote("system", endText(code, reason));
  }
}

/** @param {number | null} code @param {string} reason */
function endText(code, reason) {
  if (code === SIGNED_OUT) return "The server does not accept your session.";
  if (code === 4403 && reason.startsWith("You are banned")) return withLocalTimes(reason);
  if (code === 4400) return `This room cannot be entered: ${reason || "its name is not allowed"}.`;
  if (code === 4403) return `You may not enter this room${reason ? `: ${reason}` : ""}.`;
  return `The server closed the connection (${code}${reason ? `, ${reason}` : ""}).`;
}

// --- Events of the page --------------------------------------------------------------------------

addEventListener("hashchange", () => {
  if (session.isChatShown) enterSelectedRoom();
  else rooms.showSelected();
});
session.start();
