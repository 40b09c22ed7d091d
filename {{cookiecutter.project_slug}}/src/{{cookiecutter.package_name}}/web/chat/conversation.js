/** The messages of the room: those received, those of this user that are pending, and the page's own notes. */

import { button, byId, element } from "../page.js";
import { avatar, dayNode, plainName, roomLabel, shortNameNode, timeNode } from "./elements.js";
import { PresenceNote } from "./presence.js";
import { textNodes } from "./text.js";

/** @typedef {import("./names.js").Person} Person */

/**
 * A message of this user that the server has not sent back yet. `queued`: it waits for a connection;
 * `sent`: it is on a connection; `unconfirmed`: that connection was lost; `refused`: it was not sent,
 * or the server answered with an error.
 *
 * @typedef {object} PendingMessage
 * @property {string} text
 * @property {"queued" | "sent" | "unconfirmed" | "refused"} state
 * @property {HTMLLIElement} entry
 */

/**
 * @typedef {object} ConversationEvents
 * @property {(text: string) => boolean} onSendAgain Returns whether the message was accepted.
 * @property {() => void} onDiscarded
 * @property {() => void} onCaughtUp The user has asked for the newest messages.
 */

const MAX_ENTRIES = 500;
const GROUP_WITHIN_MS = 5 * 60_000;
const AT_BOTTOM_PX = 48;

const PENDING_TEXTS = {
  queued: "Waiting for the connection",
  sent: "Sending…",
  unconfirmed: "Possibly not delivered",
  refused: "Not sent",
};

export class Conversation {
  #session;
  #names;
  #events;
  /** The id of the user and the room of the messages. */
  #userId = "";
  #room = "";
  /** The number of unsent messages of a user who has signed out. */
  #dropped = 0;
  /** Whether the page's title shows the room. */
  #isTitled = false;
  #isAtBottom = true;
  #unreadMessages = 0;
  /** @type {PendingMessage[]} */
  #pending = [];
  #projectName = document.title;
  #frame = byId("conversation", HTMLElement);
  #list = byId("messages", HTMLElement);
  #pendingList = byId("pending", HTMLElement);
  /** The number of messages below the visible part, since the user has scrolled up. */
  #newerMessages = 0;
  /** The day of the last entry; at first today, which needs no line. */
  #day = new Date().toDateString();
  #newer = byId("newer", HTMLButtonElement);
  #newerCount = byId("newer-count", HTMLElement);
  #presence;

  /**
   * @param {import("./session.js").Session} session
   * @param {import("./names.js").Names} names
   * @param {ConversationEvents} events
   */
  constructor(session, names, events) {
    this.#session = session;
    this.#names = names;
    this.#presence = new PresenceNote(names);
    this.#events = events;
    this.#newer.addEventListener("click", () => {
      this.#scrollToBottom();
      this.#frame.focus();
      events.onCaughtUp();
    });
    this.#frame.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.#frame;
      this.#isAtBottom = scrollHeight - scrollTop - clientHeight < AT_BOTTOM_PX;
      if (this.#isAtBottom) this.#showNewer(0);
    });
    new ResizeObserver(() => this.#isAtBottom && this.#scrollToBottom()).observe(this.#frame);
  }

  /**
   * Show the user's conversation in a room: what the page has of it, or an empty one.
   *
   * @param {string} room
   * @returns {boolean} Whether the page already showed it.
   */
  open(room) {
    const userId = this.#session.user?.id ?? "";
    if (this.#room !== "" && userId !== this.#userId) this.signOut();
    const lastRoom = this.#room;
    const lostMessages = this.#unsentMessages;
    const isContinued = room === lastRoom;
    if (!isContinued) this.#clear();
    this.#userId = userId;
    this.#room = room;
    if (lostMessages > 0 && !isContinued) {
      const count = lostMessages === 1 ? "A message" : `${lostMessages} messages`;
      this.addNote("system", count, " to '", shortNameNode(roomLabel(lastRoom)), "' could not be sent.");
    }
    if (this.#dropped > 0) {
      const count = this.#dropped === 1 ? "1 message was" : `${this.#dropped} messages were`;
      this.addNote("system", `${count} not sent: you signed out.`);
    }
    this.#dropped = 0;
    this.#showTitle();
    return isContinued;
  }

  /** Forget the conversation of a user who has signed out; the next one reports the messages that were not sent. */
  signOut() {
    this.#dropped += this.#unsentMessages;
    this.#clear();
  }

  /** Whether nothing has been said, as far as the page knows. */
  get isEmpty() {
    return this.#pending.length === 0 && this.#list.querySelector(".message") === null;
  }

  get #unsentMessages() {
    return this.#pending.filter(({ state }) => state !== "sent").length;
  }

  #clear() {
    this.#room = "";
    this.#names.clear();
    this.#list.replaceChildren();
    this.#day = new Date().toDateString();
    this.#pendingList.replaceChildren();
    this.#pendingList.hidden = true;
    this.#pending = [];
    this.#scrollToBottom();
  }

  hideTitle() {
    this.#isTitled = false;
    document.title = this.#projectName;
  }

  markRead() {
    this.#unreadMessages = 0;
    if (this.#isTitled) this.#showTitle();
  }

  /** @param {Person} person @param {string} text @param {number} [atMs] When it was sent, as in `Date.now()`; by default now. */
  addMessage(person, text, atMs = Date.now()) {
    const isOwn = person.userId === this.#userId;
    if (isOwn) {
      this.#drop(this.#pending.find((message) => message.state !== "queued" && message.text.trim() === text.trim()));
    }
    this.#addEntry(messageEntry(person, text, isOwn ? "You" : this.#names.node(person), isOwn, atMs), atMs);
  }

  /** @param {"system" | "announcement"} kind @param {...(Node | string)} content */
  addNote(kind, ...content) {
    const text = element("p", "text", ...content);
    text.dir = "auto";
    if (kind === "announcement") text.prepend(element("strong", "label", "Announcement"), " ");
    this.#addEntry(element("li", kind, text, element("span", "meta", timeNode())));
  }

  /** Add to the note about joins and leaves, if that is the last entry; otherwise begin a note. @param {import("./presence.js").Presence} presence */
  addPresence(presence) {
    const isLast = this.#list.lastElementChild === this.#presence.entry;
    if (!isLast) this.#presence = new PresenceNote(this.#names);
    this.#presence.add(presence);
    if (!isLast) this.#addEntry(this.#presence.entry);
    else if (this.#isAtBottom) this.#scrollToBottom();
  }

  /** @param {string} text @param {PendingMessage["state"]} state */
  addPending(text, state) {
    const person = { user: this.#session.user?.name ?? "", userId: this.#userId };
    const entry = messageEntry(person, text, "You", true, Date.now());
    /** @type {PendingMessage} */
    const message = { text, state, entry };
    this.#pending.push(message);
    this.#pendingList.append(entry);
    this.#setState(message, state);
    this.#scrollToBottom();
  }

  /** Move all pending messages in one state to another. @param {PendingMessage["state"]} from @param {PendingMessage["state"]} to */
  movePending(from, to) {
    for (const message of this.#pending) if (message.state === from) this.#setState(message, to);
  }

  /** The server has answered with an error: it answers in order, so the oldest message is meant. */
  refuseOldest() {
    const message = this.#pending.find(({ state }) => state === "sent");
    if (message) this.#setState(message, "refused");
  }

  /** @param {PendingMessage} message @param {PendingMessage["state"]} state */
  #setState(message, state) {
    message.state = state;
    const meta = message.entry.querySelector(".meta");
    meta?.replaceChildren(PENDING_TEXTS[state]);
    if (state === "unconfirmed" || state === "refused") {
      meta?.append(
        button("Send again", "link", () => this.#events.onSendAgain(message.text) && this.#drop(message)),
        button("Discard", "link", () => {
          this.#drop(message);
          this.#events.onDiscarded();
        }),
      );
    }
    this.#pendingList.hidden = false;
  }

  /** @param {PendingMessage | undefined} message */
  #drop(message) {
    this.#pending = this.#pending.filter((other) => other !== message);
    message?.entry.remove();
    this.#pendingList.hidden = this.#pending.length === 0;
  }

  /** @param {HTMLLIElement} entry @param {number} [atMs] */
  #addEntry(entry, atMs = Date.now()) {
    const day = new Date(atMs).toDateString();
    if (day !== this.#day) this.#list.append(element("li", "day", dayNode(atMs)));
    this.#day = day;
    const last = this.#list.lastElementChild;
    const { userId } = entry.dataset;
    if (last instanceof HTMLElement && userId !== undefined && last.dataset.userId === userId) {
      entry.classList.toggle("continued", atMs - Number(last.dataset.atMs) < GROUP_WITHIN_MS);
    }
    this.#list.append(entry);
    while (this.#list.childElementCount > MAX_ENTRIES) this.#list.firstElementChild?.remove();
    this.#list.firstElementChild?.classList.remove("continued");
    if (this.#isAtBottom) this.#scrollToBottom();
    else if (!entry.matches(".system")) this.#showNewer(this.#newerMessages + 1);
    if (document.hidden && !entry.matches(".system, .own")) {
      this.#unreadMessages += 1;
      this.#showTitle();
    }
  }

  #showTitle() {
    this.#isTitled = true;
    const count = this.#unreadMessages > 0 ? `(${this.#unreadMessages}) ` : "";
    document.title = `${count}${plainName(roomLabel(this.#room))} · ${this.#projectName}`;
  }

  #scrollToBottom() {
    this.#frame.scrollTop = this.#frame.scrollHeight;
    this.#showNewer(0);
    this.#isAtBottom = true;
  }

  /** @param {number} count */
  #showNewer(count) {
    this.#newerMessages = count;
    this.#newerCount.textContent = `${count.toLocaleString()} new ${count === 1 ? "message" : "messages"}`;
    this.#newer.hidden = count === 0;
  }
}

/** @param {Person} person @param {string} text @param {Node | string} name @param {boolean} isOwn @param {number} atMs */
function messageEntry({ user, userId }, text, name, isOwn, atMs) {
  const author = element("p", "author", name);
  const content = element("p", "text", ...textNodes(text));
  content.dir = "auto";
  const bubble = element("div", "bubble", author, content, element("span", "meta", timeNode(atMs)));
  const entry = element("li", isOwn ? "message own" : "message", avatar(user), bubble);
  entry.dataset.userId = userId;
  entry.dataset.atMs = String(atMs);
  return entry;
}
