/** The conversation in the room: messages received, those of this user that are pending, and the page's own notes. */

import { element } from "../page.js";
import { nameNode, roomLabel, shortNameNode, timeNode } from "./elements.js";
import { messageEntry } from "./entries.js";
import { LostMessages } from "./lost-messages.js";
import { MessageList } from "./message-list.js";
import { PendingMessages } from "./pending.js";
import { PresenceNote } from "./presence.js";
import { Scroller } from "./scroller.js";

/** @typedef {import("../realtime.js").ServerMessages} ServerMessages */
/** @typedef {import("./message-list.js").PastMessage} PastMessage */

/**
 * @typedef {object} ConversationEvents
 * @property {(text: string, request: import("./pending.js").TextRequest) => boolean} onSendAgain Returns whether the message was accepted.
 * @property {() => void} onDiscarded
 * @property {() => void} onCaughtUp The user has asked for the newest messages.
 * @property {() => void} onTrimmed The first messages are not shown any more.
 * @property {() => boolean} hasEarlier Returns whether there are messages before the first one that is shown.
 * @property {(entry: HTMLElement) => void} onAdded There is a new entry, usually the last one.
 * @property {() => void} onScroll
 */

export class Conversation {
  #session;
  #names;
  #events;
  /** The id of the user and the room of the messages. */
  #userId = "";
  #room = "";
  /** The number of unsent messages of a user who has signed out, and whether some of them may have arrived. */
  #dropped = 0;
  #isUncertain = false;
  #scroller;
  #list;
  #lost = new LostMessages();
  #pending;
  #presence;

  /**
   * @param {import("./session.js").Session} session
   * @param {import("./names.js").Names} names
   * @param {ConversationEvents} events
   */
  constructor(session, names, events) {
    this.#session = session;
    this.#names = names;
    this.#events = events;
    this.#scroller = new Scroller(events);
    this.#list = new MessageList(names, this.#scroller, events.onTrimmed);
    this.#presence = new PresenceNote(names);
    this.#pending = new PendingMessages(events, (texts) => this.#lost.keep(this.#userId, this.#room, texts));
  }

  /** The messages and notes that are shown. */
  get list() {
    return this.#list;
  }

  get scroller() {
    return this.#scroller;
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
    const outcome = this.#pending.isUncertain ? "may not have been sent" : "could not be sent";
    const isContinued = room === lastRoom;
    const left = this.#lost.take(userId);
    this.#userId = userId;
    if (!isContinued) this.#clear();
    this.#room = room;
    if (left) this.#reportLost(left.count, left.room, "may not have been sent", left.texts);
    if (lostMessages > 0 && !isContinued) this.#reportLost(lostMessages, lastRoom, outcome);
    if (this.#dropped > 0) {
      const [count, was] = this.#dropped === 1 ? ["1 message", "was"] : [`${this.#dropped} messages`, "were"];
      this.addNote("system", `${count} ${this.#isUncertain ? "may not have been" : `${was} not`} sent: you signed out.`);
    }
    this.#dropped = 0;
    this.#isUncertain = false;
    return isContinued;
  }

  /** @param {number} count @param {string} room @param {string} outcome @param {string[]} [texts] Of the first ones. */
  #reportLost(count, room, outcome, texts = []) {
    const messages = count === 1 ? "A message" : `${count} messages`;
    const quoted = texts.flatMap((text, index) => [index === 0 ? ": '" : ", '", nameNode(text), "'"]);
    const end = texts.length > 0 && texts.length < count ? ", …" : ".";
    this.addNote("system", messages, " to '", shortNameNode(roomLabel(room)), `' ${outcome}`, ...quoted, end);
  }

  /** Forget the conversation of a user who has signed out; the next one reports the messages that were not sent. */
  signOut() {
    this.#dropped += this.#pending.unsent;
    this.#isUncertain ||= this.#pending.isUncertain;
    this.#clear();
  }

  /** Whether nothing has been said, as far as the page knows. */
  get isEmpty() {
    return this.#pending.count === 0 && !this.#list.hasMessages;
  }

  #clear() {
    this.#room = "";
    this.#names.clear();
    this.#list.clear(this.#userId);
    this.#pending.clear();
    this.#scroller.toBottom();
  }

  /** Add messages of the past where they belong. @param {PastMessage[]} messages The oldest first. */
  addPast(messages) {
    const newest = this.#list.newestId;
    for (const { messageId, userId, text } of messages) {
      const isNewer = newest !== undefined && messageId > newest;
      if (isNewer && userId === this.#userId) this.#pending.confirm(text, ["queued", "sent", "unconfirmed"]);
    }
    this.#list.addPast(messages);
  }

  /** @param {ServerMessages["serverNewMessage"]} message @param {number} [atMs] When it was sent, as in `Date.now()`: by default now. */
  addMessage(message, atMs = Date.now()) {
    const { userId, text, messageId } = message;
    const { oldestId } = this.#list;
    if (messageId !== undefined && this.#list.find(messageId)) return;
    if (userId === this.#userId) this.#pending.confirm(text, ["queued", "sent", "unconfirmed", "refused"]);
    // A request that was sent again: its message is one of those that are loaded while the user scrolls up.
    if (messageId !== undefined && oldestId !== undefined && messageId < oldestId && this.#events.hasEarlier()) return;
    const entry = this.#list.entryOf(message, atMs);
    if (entry) this.#add(entry, atMs);
  }

  /** @param {"system" | "announcement"} kind @param {...(Node | string)} content */
  addNote(kind, ...content) {
    const text = element("p", "text", ...content);
    text.dir = "auto";
    if (kind === "announcement") text.prepend(element("strong", "label", "Announcement"), " ");
    this.#add(element("li", kind, text, element("span", "meta", timeNode())));
  }

  /** Add to the note about joins and leaves, if that is the last entry; otherwise begin a note. @param {import("./presence.js").Presence} presence */
  addPresence(presence) {
    const isLast = this.#list.lastEntry === this.#presence.entry;
    if (!isLast) this.#presence = new PresenceNote(this.#names);
    this.#presence.add(presence);
    if (!isLast) this.#add(this.#presence.entry);
    else if (this.#scroller.isAtBottom) this.#scroller.toBottom();
  }

  /** @param {string} text @param {import("./pending.js").TextRequest} request @param {import("./pending.js").PendingState} state @returns {import("./pending.js").PendingMessage} */
  addPending(text, request, state) {
    const person = { user: this.#session.user?.name ?? "", userId: this.#userId };
    const message = this.#pending.add(messageEntry(person, text, "You", true, Date.now()), text, request, state);
    this.#scroller.toBottom();
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
  #add(entry, atMs = Date.now()) {
    this.#list.add(entry, atMs);
    this.#events.onAdded(entry);
  }
}
