/** The messages of the room: those received, those of this user that are pending, and the page's own notes. */

import { byId, element } from "../page.js";
import { plainName, roomLabel, shortNameNode, timeNode } from "./elements.js";
import { messageEntry, separate } from "./entries.js";
import { PendingMessages } from "./pending.js";
import { PresenceNote } from "./presence.js";

/** @typedef {import("./names.js").Person} Person */
/** @typedef {import("../realtime.js").ServerMessages} ServerMessages */

/**
 * @typedef {object} ConversationEvents
 * @property {(text: string) => boolean} onSendAgain Returns whether the message was accepted.
 * @property {() => void} onDiscarded
 * @property {() => void} onCaughtUp The user has asked for the newest messages.
 * @property {() => void} onTrimmed The first messages are not shown any more.
 */

const MAX_ENTRIES = 500;
const AT_BOTTOM_PX = 48;

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
  #pending;
  #projectName = document.title;
  #frame = byId("conversation", HTMLElement);
  #list = byId("messages", HTMLElement);
  /** The number of messages below the visible part, since the user has scrolled up. */
  #newerMessages = 0;
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
    this.#pending = new PendingMessages(events);
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
    const lostMessages = this.#pending.unsent;
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
    this.#dropped += this.#pending.unsent;
    this.#clear();
  }

  /** Whether nothing has been said, as far as the page knows. */
  get isEmpty() {
    return this.#pending.count === 0 && this.#list.querySelector(".message") === null;
  }

  #clear() {
    this.#room = "";
    this.#names.clear();
    this.#list.replaceChildren();
    this.#pending.clear();
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

  /** The id of the first message that is shown; undefined without one. @returns {string | undefined} */
  get oldestId() {
    return this.#stored[0]?.dataset.messageId;
  }

  /** The id of the last message that is shown; undefined without one. @returns {string | undefined} */
  get newestId() {
    return this.#stored.at(-1)?.dataset.messageId;
  }

  /** The messages that have an id. @returns {HTMLElement[]} */
  get #stored() {
    return [...this.#list.querySelectorAll("[data-message-id]")].filter((entry) => entry instanceof HTMLElement);
  }

  /**
   * Add messages of the past, the oldest first, where they belong; those that are shown already stay as they are.
   *
   * @param {ServerMessages["serverHistory"]["messages"]} messages
   */
  addPast(messages) {
    const stored = this.#stored;
    const newest = stored.at(-1)?.dataset.messageId;
    // What the user reads stays where it is.
    const anchor = [...this.#list.children].find((entry) => entry.getBoundingClientRect().bottom > this.#frame.getBoundingClientRect().top);
    const top = anchor?.getBoundingClientRect().top ?? 0;
    let newer = 0;
    for (const { messageId, user, userId, text, at } of messages) {
      if (stored.some((other) => other.dataset.messageId === messageId)) continue;
      const isNewer = newest !== undefined && messageId > newest;
      if (userId === this.#userId && isNewer) this.#pending.confirm(text, ["queued", "sent", "unconfirmed"]);
      const entry = this.#entryOf({ user, userId }, text, at, messageId);
      entry.ariaLive = "off"; // A screen reader does not read out the past.
      let place = stored.length;
      while (place > 0 && String(stored[place - 1]?.dataset.messageId) > messageId) place -= 1;
      const before = stored[place - 1];
      if (before) before.after(entry);
      else this.#list.prepend(entry);
      stored.splice(place, 0, entry);
      newer += Number(isNewer);
    }
    this.#separateAll();
    if (this.#isAtBottom) {
      this.#scrollToBottom();
    } else {
      this.#frame.scrollTop += (anchor?.getBoundingClientRect().top ?? top) - top;
      this.#showNewer(this.#newerMessages + newer);
    }
  }

  /** Show nothing before a message. @param {string} messageId */
  dropBefore(messageId) {
    const first = this.#find(messageId);
    while (first && this.#list.firstElementChild !== first) this.#list.firstElementChild?.remove();
    this.#separateAll();
  }

  #separateAll() {
    for (const line of this.#list.querySelectorAll(".day")) line.remove();
    const entries = [...this.#list.children];
    for (const [index, entry] of entries.entries()) separate(entries[index - 1] ?? null, entry);
  }

  /** @param {string} messageId @returns {HTMLElement | undefined} */
  #find(messageId) {
    return this.#stored.find((entry) => entry.dataset.messageId === messageId);
  }

  /** @param {Person} person @param {string} text @param {{ messageId?: string | undefined, atMs?: number | undefined }} details When it was sent, as in `Date.now()`: by default now. */
  addMessage(person, text, { messageId, atMs = Date.now() }) {
    if (messageId !== undefined && this.#find(messageId)) return;
    if (person.userId === this.#userId) this.#pending.confirm(text, ["queued", "sent", "unconfirmed", "refused"]);
    this.#addEntry(this.#entryOf(person, text, atMs, messageId), atMs);
  }

  /** @param {Person} person @param {string} text @param {number} atMs @param {string | undefined} messageId */
  #entryOf(person, text, atMs, messageId) {
    const isOwn = person.userId === this.#userId;
    const entry = messageEntry(person, text, isOwn ? "You" : this.#names.node(person), isOwn, atMs);
    if (messageId !== undefined) entry.dataset.messageId = messageId;
    return entry;
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

  /** @param {string} text @param {import("./pending.js").PendingState} state @returns {import("./pending.js").PendingMessage} */
  addPending(text, state) {
    const person = { user: this.#session.user?.name ?? "", userId: this.#userId };
    const message = this.#pending.add(messageEntry(person, text, "You", true, Date.now()), text, state);
    this.#scrollToBottom();
    return message;
  }

  /** The server has accepted a message. @param {import("./pending.js").PendingMessage} message */
  acceptPending(message) {
    this.#pending.accept(message);
  }

  /** @param {import("./pending.js").PendingMessage} message @param {import("./pending.js").PendingState} state */
  failPending(message, state) {
    this.#pending.fail(message, state);
  }

  /** Move all pending messages in one state to another. @param {import("./pending.js").PendingState} from @param {import("./pending.js").PendingState} to */
  movePending(from, to) {
    this.#pending.move(from, to);
  }

  /** @param {HTMLLIElement} entry @param {number} [atMs] */
  #addEntry(entry, atMs = Date.now()) {
    const last = this.#list.lastElementChild;
    entry.dataset.atMs = String(atMs);
    this.#list.append(entry);
    separate(last, entry);
    if (this.#isAtBottom) {
      this.#trim();
      this.#scrollToBottom();
    } else if (!entry.matches(".system")) {
      this.#showNewer(this.#newerMessages + 1);
    }
    if (document.hidden && !entry.matches(".system, .own")) {
      this.#unreadMessages += 1;
      this.#showTitle();
    }
  }

  #trim() {
    const excess = this.#list.childElementCount - MAX_ENTRIES;
    if (excess <= 0) return;
    for (let count = 0; count < excess; count += 1) this.#list.firstElementChild?.remove();
    this.#list.firstElementChild?.classList.remove("continued");
    this.#events.onTrimmed();
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
