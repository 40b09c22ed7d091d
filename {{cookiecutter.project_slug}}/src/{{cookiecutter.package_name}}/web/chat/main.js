/** The chat page: creates its parts and connects them. Each part owns its state and its elements. */

import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { Conversation } from "./conversation.js";
import { shortNameNode } from "./elements.js";
import { People } from "./people.js";
import { Rooms } from "./rooms.js";
import { Session } from "./session.js";
import { SidePanel } from "./side.js";
import { TypingIndicator, TypingNotifier } from "./typing.js";

/** @typedef {import("../realtime.js").RealtimeClient} RealtimeClient */
/** @typedef {import("../realtime.js").ServerMessages} ServerMessages */

const session = new Session({
  onEnter: enterSelectedRoom,
  onForm() {
    rooms.showSelected();
    conversation.hideTitle();
  },
  onSignOut() {
    leaveRoom();
    conversation.clear();
    composer.showError("");
  },
  onSignOutFailed: (problem) => composer.showError(problem),
});
const rooms = new Rooms(new SidePanel(), (name) => {
  if (name !== rooms.current || connection.client === null) enterRoom(name);
});
const people = new People(session);
const conversation = new Conversation(session, {
  onSendAgain: sendMessage,
  onDiscarded: () => composer.focus(),
});
const connection = new Connection({
  onOpen(hasGap) {
    conversation.movePending("queued", "sent");
    if (hasGap) conversation.addNote("system", "Reconnected. Messages sent in the meantime are not shown here.");
  },
  onInterrupted(isLost) {
    // A message sent just before may be lost, even where the page itself has replaced the connection.
    conversation.movePending("sent", "unconfirmed");
    if (isLost) clearPeople();
  },
  onEnd: receiveEnd,
  onMissing: () => conversation.addNote("system", "Some messages are missing here: the server no longer has them."),
  onTryNow() {
    if (connection.client?.state === "waiting") connection.client.retryNow();
    else enterRoom(rooms.current);
    composer.focus();
  },
});
const typingIndicator = new TypingIndicator(session);
const typingNotifier = new TypingNotifier(connection);
const composer = new Composer({
  onSend: sendMessage,
  onEdit: (text) => typingNotifier.update(text),
  onStop: () => typingNotifier.stop(),
});

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
  if (!isContinued) composer.showError("");
  receiveMessages(connection.open(name, isContinued));
}

function leaveRoom() {
  connection.close();
  typingNotifier.reset();
  clearPeople();
}

function clearPeople() {
  people.clear();
  typingIndicator.clear();
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
  client.on("serverNewMessage", ({ user, text }) => {
    typingIndicator.set(user, false);
    conversation.addMessage(user, text);
  });
  client.on("serverUserJoined", ({ user }) => receivePresence(user, true));
  client.on("serverUserLeft", ({ user }) => receivePresence(user, false));
  client.on("serverPresenceChanged", receivePresenceChange);
  client.on("serverUserTyping", ({ user, isTyping }) => typingIndicator.set(user, isTyping));
  client.on("serverError", ({ error }) => {
    composer.showError(error);
    conversation.refuseOldest();
  });
}

/** @param {ServerMessages["serverRoomState"]} state */
function receiveRoomState(state) {
  if (state.you !== session.name) {
    session.rename(state.you);
    conversation.rename(state.you);
  }
  people.replace(state);
  rooms.remember();
}

/** @param {string} user @param {boolean} isPresent */
function receivePresence(user, isPresent) {
  if (!people.set(user, isPresent)) return;
  if (!isPresent) typingIndicator.set(user, false);
  if (user !== session.name) conversation.addNote("system", shortNameNode(user), isPresent ? " joined" : " left");
}

/** @param {ServerMessages["serverPresenceChanged"]} change */
function receivePresenceChange(change) {
  people.change(change);
  for (const user of change.left) typingIndicator.set(user, false);
  const { joined, left, moreJoined = 0, moreLeft = 0 } = change;
  const others = joined.filter((user) => user !== session.name);
  conversation.addPresence(others.length + moreJoined, left.length + moreLeft);
}

/** @param {string} text @returns {boolean} Whether it was accepted; if not, the composer shows why. */
function sendMessage(text) {
  const { client } = connection;
  if (!client?.send("clientSendMessage", { text })) {
    composer.showError(
      client?.state === "closed" ? "You are not connected." : "Too many messages are queued. Please try again later.",
    );
    return false;
  }
  conversation.addPending(text, client.state === "open" ? "sent" : "queued");
  return true;
}

/** @param {number | null} code @param {string} reason */
function receiveEnd(code, reason) {
  conversation.movePending("queued", "refused");
  if (code === 4401 && !session.isExternal) {
    connection.close();
    session.expire();
    return;
  }
  conversation.addNote("system", endText(code, reason));
}

/** @param {number | null} code @param {string} reason */
function endText(code, reason) {
  if (code === 4401) {
    return "You are not signed in, or your session has ended. Sign in with your identity provider, then reload this page.";
  }
  if (code === 4400) return `This room cannot be entered: ${reason || "its name is not allowed"}.`;
  if (code === 4403) return `You may not enter this room${reason ? `: ${reason}` : ""}.`;
  return `The server closed the connection (${code}${reason ? `, ${reason}` : ""}).`;
}

// --- Events of the page --------------------------------------------------------------------------

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) conversation.markRead();
});
addEventListener("hashchange", () => {
  if (session.isChatShown) enterSelectedRoom();
  else rooms.showSelected();
});
session.start();
