/**
 * The page's logic: who I am, which room I am in, and what happens there.
 *
 * SECURITY: what people write reaches the page as text nodes only, never as markup.
 */

import { button, byId, element } from "./page.js";
import { connect } from "./realtime.js";

/** @typedef {import("./realtime.js").ServerMessages} ServerMessages */

/** @typedef {import("./realtime.js").RealtimeClient} ChatClient */

/**
 * A message of mine that the server has not sent back yet. `queued`: no connection took it yet;
 * `sent`: on its way; `unconfirmed`: the connection broke meanwhile; `refused`: it was not sent, or
 * the server said no.
 *
 * @typedef {object} PendingMessage
 * @property {string} text
 * @property {"queued" | "sent" | "unconfirmed" | "refused"} state
 * @property {HTMLLIElement} entry
 */

const DEFAULT_ROOM = "general";
const MAX_ROOM_NAME_BYTES = 200;
const MAX_RECENT_ROOMS = 8;
const RECENT_ROOMS_KEY = "chat.recentRooms";
const MAX_ENTRIES = 500;
const MAX_TEXT_CHARACTERS = 2_000;
const COUNTER_FROM_CHARACTERS = 1_800;
const TYPING_REPEAT_MS = 3_000;
const TYPING_IDLE_MS = 4_000;
const TYPING_EXPIRY_MS = 6_000; // Two repeats: one late or lost message does not make the line flicker.
const GROUP_WITHIN_MS = 5 * 60_000;
const AT_BOTTOM_PX = 48;
const SESSION_RETRY_MS = 3_000;
const RESYNC_WITHIN_MS = 5_000; // At random: all pages of a room hear at once that something is lost.
const AVATAR_TONES = 6;

const PENDING_WORDS = {
  queued: "Waits for the connection",
  sent: "Sending…",
  unconfirmed: "Perhaps not delivered",
  refused: "Not sent",
};

const timeFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const fullTimeFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

const page = {
  skipLink: byId("skip-link", HTMLAnchorElement),
  account: byId("account", HTMLElement),
  ownName: byId("own-name", HTMLElement),
  signOut: byId("sign-out", HTMLButtonElement),
  notice: byId("notice", HTMLElement),
  signIn: byId("sign-in", HTMLElement),
  signInForm: byId("sign-in-form", HTMLFormElement),
  signInRoom: byId("sign-in-room", HTMLElement),
  name: byId("name", HTMLInputElement),
  nameError: byId("name-error", HTMLElement),
  chat: byId("chat", HTMLElement),
  side: byId("side", HTMLElement),
  sideToggle: byId("side-toggle", HTMLButtonElement),
  roomForm: byId("room-form", HTMLFormElement),
  roomName: byId("room-name", HTMLInputElement),
  roomError: byId("room-error", HTMLElement),
  rooms: byId("rooms", HTMLElement),
  roomTitle: byId("room-title", HTMLElement),
  people: byId("people", HTMLElement),
  peopleCount: byId("people-count", HTMLElement),
  connection: byId("connection", HTMLElement),
  connectionText: byId("connection-text", HTMLElement),
  countdown: byId("countdown", HTMLElement),
  tryNow: byId("try-now", HTMLButtonElement),
  conversation: byId("conversation", HTMLElement),
  messages: byId("messages", HTMLElement),
  pending: byId("pending", HTMLElement),
  newer: byId("newer", HTMLButtonElement),
  composer: byId("composer", HTMLFormElement),
  message: byId("message", HTMLTextAreaElement),
  composerError: byId("composer-error", HTMLElement),
  counter: byId("counter", HTMLElement),
  typing: byId("typing", HTMLElement),
};

const projectName = document.title;

/** My own name; null while unknown. */
let ownName = /** @type {string | null} */ (null);
/** Whether sessions come from an identity provider instead of this page's form. */
let externalSignIn = false;
let room = "";
/** Which person and room the list of messages belongs to. */
let conversationKey = "";
let client = /** @type {ChatClient | null} */ (null);
/** Whether there has been a connection since the list of messages begins. */
let wasOpen = false;
/** Whether this connection is a later one, and has not been told yet what it missed. */
let comesBack = false;
/** Whether the room keeps what is said for those who come back. */
let keepsHistory = false;
let atBottom = true;
let unreadMessages = 0;
let lastTypingSentMs = -Infinity;
let sentTyping = false;
let idleTimer = 0;
let countdownTimer = 0;
let resyncTimer = 0;
/** @type {Set<string>} */
const people = new Set();
/** Who types, with the timer that ends the indication. @type {Map<string, number>} */
const typists = new Map();
/** @type {PendingMessage[]} */
let pendingMessages = [];

// --- Session -------------------------------------------------------------------------------------

async function start() {
  const response = await fetch("/session", { cache: "no-store" }).catch(() => null);
  if (response?.ok) {
    ownName = (await response.json()).name;
    showChat();
  } else if (response?.status === 401) {
    showSignIn();
  } else if (response?.status === 404) {
    externalSignIn = true;
    showChat();
  } else {
    page.notice.textContent = "The server does not answer as it should. Trying again…";
    setTimeout(start, SESSION_RETRY_MS);
  }
}

async function signIn() {
  showProblem(page.name, page.nameError, "");
  const response = await fetch("/session", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ name: page.name.value.trim() }),
  }).catch(() => null);
  const answer = await response?.json().catch(() => null);
  if (response?.ok) {
    ownName = answer.name;
    showChat();
    return;
  }
  const problem = answer?.description ?? answer?.title ?? "The server does not answer. Please try again in a moment.";
  showProblem(page.name, page.nameError, problem);
  page.name.focus();
}

async function signOut() {
  const response = await fetch("/session", { method: "DELETE" }).catch(() => null);
  if (!response?.ok) {
    page.composerError.textContent = "You could not be signed out: the server does not answer.";
    return;
  }
  leaveRoom();
  forgetConversation();
  ownName = null;
  showSignIn();
}

function showSignIn(sentence = "") {
  page.notice.textContent = sentence;
  page.account.hidden = page.chat.hidden = page.skipLink.hidden = true;
  page.signIn.hidden = false;
  page.signInRoom.textContent = roomFromHash() || DEFAULT_ROOM;
  page.name.value ||= ownName ?? "";
  document.title = projectName;
  page.name.focus();
}

function showChat() {
  page.notice.textContent = "";
  page.signIn.hidden = true;
  page.chat.hidden = page.skipLink.hidden = false;
  page.signOut.hidden = externalSignIn;
  showOwnName();
  enterRoomFromHash();
  focusMessage();
}

/** Where there is no mouse, the focus would bring up a keyboard that covers the room. */
function focusMessage() {
  if (matchMedia("(hover: hover)").matches) page.message.focus();
}

function showOwnName() {
  page.account.hidden = ownName === null;
  page.ownName.textContent = ownName;
}

// --- Rooms ---------------------------------------------------------------------------------------

function roomFromHash() {
  try {
    return decodeURIComponent(location.hash.slice(1)).trim();
  } catch {
    return ""; // A stray % sign.
  }
}

/**
 * What is wrong with a room's name, as a sentence; empty if nothing is. The server has the last word.
 *
 * @param {string} name
 */
function problemOfRoomName(name) {
  if (name === "") return "Please enter the name of a room.";
  if (/\p{Cc}|\p{Cs}/u.test(name)) return "A room's name cannot contain control characters.";
  // A path segment of dots is resolved by the browser, a slash would begin another segment.
  if (name === "." || name === ".." || name.includes("/")) return "A room's name cannot be dots or contain a slash.";
  if (new TextEncoder().encode(name).length > MAX_ROOM_NAME_BYTES) return "This name is too long for a room.";
  return "";
}

function enterRoomFromHash() {
  let name = roomFromHash();
  const problem = location.hash.length > 1 ? problemOfRoomName(name) : "";
  showProblem(page.roomName, page.roomError, problem);
  if (problem || name === "") name = room || recentRooms()[0] || DEFAULT_ROOM;
  history.replaceState(null, "", hashOf(name));
  if (name !== room || client === null) enterRoom(name);
  if (problem) openSide(true);
}

/** @param {string} name */
function enterRoom(name) {
  const lostMessages = pendingMessages.filter(({ state }) => state !== "sent").length;
  const lastRoom = room;
  leaveRoom();
  room = name;
  if (conversationKey !== JSON.stringify([ownName, room])) forgetConversation();
  conversationKey = JSON.stringify([ownName, room]);
  if (lostMessages > 0 && lastRoom !== room) {
    const count = lostMessages === 1 ? "A message" : `${lostMessages} messages`;
    addNote("system", count, " to ", nameNode(lastRoom), " could not be sent.");
  }
  page.roomTitle.textContent = room;
  showUnread();
  showRooms();
  openSide(false);
  openConnection();
}

function leaveRoom() {
  const lastClient = client;
  client = null;
  lastClient?.close();
  clearInterval(countdownTimer);
  clearTimeout(idleTimer);
  clearTimeout(resyncTimer);
  sentTyping = false;
  forgetPeople();
}

/** @returns {string[]} The rooms entered lately, the last one first. */
function recentRooms() {
  try {
    const names = JSON.parse(localStorage.getItem(RECENT_ROOMS_KEY) ?? "[]");
    return names.filter((/** @type {unknown} */ name) => typeof name === "string" && !problemOfRoomName(name));
  } catch {
    return []; // Storage is forbidden here, or holds something else.
  }
}

function rememberRoom() {
  try {
    const names = [room, ...recentRooms().filter((name) => name !== room)];
    localStorage.setItem(RECENT_ROOMS_KEY, JSON.stringify(names.slice(0, MAX_RECENT_ROOMS)));
  } catch {
    // Storage is forbidden or full: the list of rooms is a convenience.
  }
  showRooms();
}

function showRooms() {
  const names = [...new Set([room, ...recentRooms()])].sort((a, b) => a.localeCompare(b));
  page.rooms.replaceChildren(
    ...names.map((name) => {
      const link = element("a", "", nameNode(name));
      link.href = hashOf(name);
      if (name === room) link.setAttribute("aria-current", "page");
      return element("li", "", link);
    }),
  );
}

/** @param {string} name */
function hashOf(name) {
  return `#${encodeURIComponent(name)}`;
}

/** @param {boolean} open */
function openSide(open) {
  page.side.classList.toggle("open", open);
  page.sideToggle.setAttribute("aria-expanded", String(open));
}

// --- Connection ----------------------------------------------------------------------------------

function openConnection() {
  const path = (document.body.dataset.websocketPath ?? "").replace(/\/$/, "");
  comesBack = keepsHistory = false;
  const opened = connectChat(`${path}/${encodeURIComponent(room)}`);
  client = opened;
  opened.onStatus((status) => client === opened && showStatus(status));
  opened.on("serverSystemMessage", ({ text }) => comesBack || addNote("system", text)); // Welcomed already.
  opened.on("serverSystemAnnouncement", ({ text }) => addNote("announcement", text));
  opened.on("serverRoomState", receiveRoomState);
  opened.on("serverNewMessage", receiveMessage);
  opened.on("serverUserJoined", ({ user }) => receivePresence(user, true));
  opened.on("serverUserLeft", ({ user }) => receivePresence(user, false));
  opened.on("serverUserTyping", ({ user, isTyping }) => receiveTyping(user, isTyping));
  opened.on("serverError", receiveError);
  opened.on("serverPosition", () => (keepsHistory = true));
  opened.onRecovery(({ recovered }) => receiveRecovery(opened, recovered));
  showStatus(opened.status);
}

/** @param {string} path @returns {ChatClient} */
function connectChat(path) {
  return connect(path);
}

/** @param {import("./realtime.js").ConnectionStatus} status */
function showStatus({ state, nextTryAtMs, code, reason }) {
  page.connection.dataset.state = state;
  page.connectionText.textContent = wordsForStatus(state, code);
  page.tryNow.hidden = state === "connecting" || state === "open";
  page.tryNow.textContent = state === "closed" ? "Connect again" : "Try now";
  clearInterval(countdownTimer);
  page.countdown.textContent = "";
  if (nextTryAtMs !== null) {
    const count = () => {
      page.countdown.textContent = `Next try in ${Math.max(0, Math.ceil((nextTryAtMs - Date.now()) / 1000))} s`;
    };
    count();
    countdownTimer = setInterval(count, 250);
  }
  if (state === "open") {
    for (const message of pendingMessages) if (message.state === "queued") setPendingState(message, "sent");
    if (wasOpen && !keepsHistory) addNote("system", "Connected again. What was written meanwhile is not shown here.");
    comesBack = wasOpen && keepsHistory;
    wasOpen = true;
    return;
  }
  clearTimeout(resyncTimer);
  // What was sent before the page itself connects anew may have been lost as well.
  for (const message of pendingMessages) if (message.state === "sent") setPendingState(message, "unconfirmed");
  if (state !== "connecting") forgetPeople();
  if (state === "closed") receiveEnd(code, reason);
}

/** @param {ChatClient} opened @param {boolean} recovered */
function receiveRecovery(opened, recovered) {
  if (!recovered) addNote("system", "Some messages are missing here: they are not kept any more.");
  if (!recovered && !comesBack) {
    // It is the server that has lost something, so who is there may be wrong too.
    clearTimeout(resyncTimer);
    resyncTimer = setTimeout(() => opened.reconnect(), Math.random() * RESYNC_WITHIN_MS);
  }
  comesBack = false;
}

/** @param {string} state @param {number | null} code */
function wordsForStatus(state, code) {
  if (state === "connecting") return "Connecting…";
  if (state === "open") return "Connected";
  if (state === "closed") return "Disconnected";
  if (code === 1012) return "The server restarts.";
  if (code === 4008) return "Connection too slow.";
  if (code === 4029) return "Sent too much at once.";
  return "Connection lost.";
}

/** @param {number | null} code @param {string} reason */
function receiveEnd(code, reason) {
  for (const message of pendingMessages) if (message.state === "queued") setPendingState(message, "refused");
  if (code === 4401 && !externalSignIn) {
    client = null;
    showSignIn("Your session has ended. Please sign in again.");
  } else if (code === 4401) {
    addNote(
      "system",
      "You are not signed in, or your session has ended. Sign in where your account lives, then reload this page.",
    );
  } else if (code === 4400) {
    addNote("system", `This room cannot be entered: ${reason || "its name is not allowed"}.`);
  } else if (code === 4403) {
    addNote("system", `You may not enter this room${reason ? `: ${reason}` : ""}.`);
  } else {
    addNote("system", `The server ended the connection (${code}${reason ? `, ${reason}` : ""}).`);
  }
}

function reconnect() {
  if (client?.state === "waiting") client.retryNow();
  else enterRoom(room);
  focusMessage();
}

// --- People --------------------------------------------------------------------------------------

/** @param {ServerMessages["serverRoomState"]} payload */
function receiveRoomState({ users, you }) {
  if (you !== ownName) {
    ownName = you;
    conversationKey = JSON.stringify([ownName, room]);
    showOwnName();
  }
  people.clear();
  for (const user of users) people.add(user);
  showPeople();
  rememberRoom();
}

/** @param {string} user @param {boolean} isHere */
function receivePresence(user, isHere) {
  if (people.has(user) === isHere) return;
  if (isHere) people.add(user);
  else people.delete(user);
  if (!isHere) receiveTyping(user, false);
  if (user !== ownName) addNote("system", nameNode(user), isHere ? " joined" : " left");
  showPeople();
}

function forgetPeople() {
  people.clear();
  for (const timer of typists.values()) clearTimeout(timer);
  typists.clear();
  showPeople();
  showTyping();
}

function showPeople() {
  page.peopleCount.textContent = people.size > 0 ? String(people.size) : "";
  const names = [...people].sort((a, b) => a.localeCompare(b));
  page.people.replaceChildren(
    ...names.map((name) => {
      const item = element("li", "", avatar(name), nameNode(name));
      if (name === ownName) item.append(" ", element("span", "hint", "(you)"));
      return item;
    }),
  );
}

// --- Typing --------------------------------------------------------------------------------------

/** @param {string} user @param {boolean} isTyping */
function receiveTyping(user, isTyping) {
  if (user === ownName) return;
  clearTimeout(typists.get(user));
  typists.delete(user);
  if (isTyping) typists.set(user, setTimeout(() => receiveTyping(user, false), TYPING_EXPIRY_MS));
  showTyping();
}

function showTyping() {
  const [first, second, third, ...others] = [...typists.keys()].map(nameNode);
  /** @type {(Node | string)[]} */
  let words = [];
  if (others.length > 0) words = [first, ", ", second, ` and ${others.length + 1} others are typing…`];
  else if (third) words = [first, ", ", second, " and ", third, " are typing…"];
  else if (second) words = [first, " and ", second, " are typing…"];
  else if (first) words = [first, " is typing…"];
  page.typing.replaceChildren(...words);
}

function startTyping() {
  clearTimeout(idleTimer);
  if (page.message.value.trim() === "") {
    stopTyping();
    return;
  }
  idleTimer = setTimeout(stopTyping, TYPING_IDLE_MS);
  // Typing is news for now only: it is never queued.
  if (client?.state !== "open" || performance.now() - lastTypingSentMs < TYPING_REPEAT_MS) return;
  sentTyping = client.send("clientStartTyping");
  lastTypingSentMs = performance.now();
}

function stopTyping() {
  clearTimeout(idleTimer);
  if (sentTyping && client?.state === "open") client.send("clientStopTyping");
  sentTyping = false;
  lastTypingSentMs = -Infinity;
}

// --- Messages ------------------------------------------------------------------------------------

function submitMessage() {
  const text = page.message.value.trimEnd();
  if (text.trim() === "") return;
  const excessCharacters = [...text].length - MAX_TEXT_CHARACTERS;
  if (excessCharacters > 0) {
    page.composerError.textContent = `This message is too long by ${excessCharacters.toLocaleString()} characters.`;
  } else if (sendMessage(text)) {
    page.message.value = "";
    showComposer();
    stopTyping();
  }
}

/** @param {string} text @returns {boolean} Whether it was taken; if not, the composer says why. */
function sendMessage(text) {
  if (!client?.send("clientSendMessage", { text })) {
    page.composerError.textContent =
      client?.state === "closed" ? "You are not connected." : "Too many messages wait already. Please try again later.";
    return false;
  }
  const entry = messageEntry(ownName ?? "", text, true);
  /** @type {PendingMessage} */
  const message = { text, state: "queued", entry };
  pendingMessages.push(message);
  page.pending.append(entry);
  setPendingState(message, client.state === "open" ? "sent" : "queued");
  scrollToBottom();
  return true;
}

/** @param {PendingMessage} message @param {PendingMessage["state"]} state */
function setPendingState(message, state) {
  message.state = state;
  const meta = message.entry.querySelector(".meta");
  meta?.replaceChildren(PENDING_WORDS[state]);
  if (state === "unconfirmed" || state === "refused") {
    meta?.append(
      button("Send again", "link", () => sendMessage(message.text) && dropPending(message)),
      button("Discard", "link", () => {
        dropPending(message);
        focusMessage();
      }),
    );
  }
  page.pending.hidden = false;
}

/** @param {PendingMessage | undefined} message */
function dropPending(message) {
  pendingMessages = pendingMessages.filter((other) => other !== message);
  message?.entry.remove();
  page.pending.hidden = pendingMessages.length === 0;
}

/** @param {ServerMessages["serverNewMessage"]} payload */
function receiveMessage({ user, text }) {
  receiveTyping(user, false);
  if (user === ownName || ownName === null) {
    dropPending(pendingMessages.find((message) => message.state !== "queued" && message.text.trim() === text.trim()));
  }
  addEntry(messageEntry(user, text, user === ownName));
}

/** @param {ServerMessages["serverError"]} payload */
function receiveError({ error }) {
  page.composerError.textContent = error;
  // The server answers in order, so an error belongs to the oldest message without an answer.
  const message = pendingMessages.find(({ state }) => state === "sent");
  if (message) setPendingState(message, "refused");
}

/** @param {"system" | "announcement"} kind @param {...(Node | string)} words */
function addNote(kind, ...words) {
  const text = element("p", "text", ...words);
  text.dir = "auto";
  if (kind === "announcement") text.prepend(element("strong", "label", "Announcement"), " ");
  addEntry(element("li", kind, text, element("span", "meta", timeNode())));
}

/** @param {string} user @param {string} text @param {boolean} isOwn */
function messageEntry(user, text, isOwn) {
  const author = element("p", "author", isOwn ? "You" : nameNode(user));
  const words = element("p", "text", text);
  words.dir = "auto";
  const bubble = element("div", "bubble", author, words, element("span", "meta", timeNode()));
  const entry = element("li", isOwn ? "message own" : "message", avatar(user), bubble);
  entry.dataset.user = user;
  entry.dataset.atMs = String(Date.now());
  return entry;
}

/** @param {HTMLLIElement} entry */
function addEntry(entry) {
  const last = page.messages.lastElementChild;
  if (last instanceof HTMLElement && entry.dataset.user !== undefined && last.dataset.user === entry.dataset.user) {
    entry.classList.toggle("continued", Date.now() - Number(last.dataset.atMs) < GROUP_WITHIN_MS);
  }
  page.messages.append(entry);
  while (page.messages.childElementCount > MAX_ENTRIES) page.messages.firstElementChild?.remove();
  page.messages.firstElementChild?.classList.remove("continued");
  if (atBottom) scrollToBottom();
  else if (!entry.matches(".system")) page.newer.hidden = false;
  if (document.hidden && !entry.matches(".system, .own")) {
    unreadMessages += 1;
    showUnread();
  }
}

function forgetConversation() {
  conversationKey = "";
  wasOpen = false;
  page.messages.replaceChildren();
  page.pending.replaceChildren();
  page.pending.hidden = true;
  pendingMessages = [];
  page.composerError.textContent = "";
  scrollToBottom();
}

function showUnread() {
  document.title = `${unreadMessages > 0 ? `(${unreadMessages}) ` : ""}${room} · ${projectName}`;
}

function scrollToBottom() {
  page.conversation.scrollTop = page.conversation.scrollHeight;
  page.newer.hidden = true;
  atBottom = true;
}

function showComposer() {
  const length = [...page.message.value].length;
  const show = length >= COUNTER_FROM_CHARACTERS;
  page.counter.textContent = show ? `${length.toLocaleString()} of ${MAX_TEXT_CHARACTERS.toLocaleString()}` : "";
  page.composerError.textContent = "";
  if (!CSS.supports("field-sizing", "content")) {
    page.message.style.height = "auto";
    page.message.style.height = `${page.message.scrollHeight}px`;
  }
}

// --- Building blocks -----------------------------------------------------------------------------

/** A name written from right to left cannot turn the words around it. @param {string} name */
function nameNode(name) {
  return element("bdi", "", name);
}

function timeNode() {
  const now = new Date();
  const time = element("time", "", timeFormat.format(now));
  time.dateTime = now.toISOString();
  time.title = fullTimeFormat.format(now);
  return time;
}

/** @param {string} name */
function avatar(name) {
  const characters = [...name];
  const sum = characters.reduce((total, character) => (total * 31 + (character.codePointAt(0) ?? 0)) % 9973, 7);
  const tone = sum % AVATAR_TONES;
  const made = element("span", `avatar tone-${tone}`, (characters[0] ?? "?").toUpperCase());
  made.setAttribute("aria-hidden", "true");
  return made;
}

/**
 * Says beside a field, and to screen readers, what is wrong with what it holds; empty if nothing is.
 *
 * @param {HTMLInputElement} field
 * @param {HTMLElement} place
 * @param {string} problem
 */
function showProblem(field, place, problem) {
  place.textContent = problem;
  if (problem) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
}

/** @param {HTMLFormElement} form @param {() => void} action */
function onSubmit(form, action) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    action();
  });
}

// --- Wiring --------------------------------------------------------------------------------------

onSubmit(page.signInForm, signIn);
onSubmit(page.composer, submitMessage);
onSubmit(page.roomForm, () => {
  const name = page.roomName.value.trim();
  const problem = problemOfRoomName(name);
  showProblem(page.roomName, page.roomError, problem);
  if (problem) return;
  page.roomName.value = "";
  if (name === room) openSide(false);
  else location.hash = hashOf(name);
});
page.signOut.addEventListener("click", signOut);
page.tryNow.addEventListener("click", reconnect);
page.newer.addEventListener("click", () => {
  scrollToBottom();
  page.conversation.focus();
});
page.name.addEventListener("input", () => showProblem(page.name, page.nameError, ""));
page.roomName.addEventListener("input", () => showProblem(page.roomName, page.roomError, ""));
page.skipLink.addEventListener("click", (event) => {
  event.preventDefault(); // The hash is the room's name.
  page.message.focus();
});
page.conversation.addEventListener("click", () => openSide(false));
page.sideToggle.addEventListener("click", () => {
  const open = !page.side.classList.contains("open");
  openSide(open);
  if (open) page.side.focus(); // It comes before the button: the next Tab leads into it.
});
page.message.addEventListener("input", () => {
  showComposer();
  startTyping();
});
page.message.addEventListener("blur", stopTyping);
page.message.addEventListener("keydown", (event) => {
  // While an input method composes, Enter chooses a character.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submitMessage();
});
page.conversation.addEventListener("scroll", () => {
  const { scrollHeight, scrollTop, clientHeight } = page.conversation;
  atBottom = scrollHeight - scrollTop - clientHeight < AT_BOTTOM_PX;
  if (atBottom) page.newer.hidden = true;
});
new ResizeObserver(() => atBottom && scrollToBottom()).observe(page.conversation);
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !page.side.classList.contains("open")) return;
  openSide(false);
  page.sideToggle.focus();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unreadMessages = 0;
  if (client) showUnread();
  client?.retryNow(); // Timers of a hidden page may be late.
});
addEventListener("hashchange", () => {
  if (page.chat.hidden) page.signInRoom.textContent = roomFromHash() || DEFAULT_ROOM;
  else {
    enterRoomFromHash();
    focusMessage();
  }
});
start();
