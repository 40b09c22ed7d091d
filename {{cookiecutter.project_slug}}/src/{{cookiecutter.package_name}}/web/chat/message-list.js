/** The list of the room's messages and notes: their order, their changes, and what is shown with each of them. */

import { byId } from "../page.js";
import { Changes } from "./changes.js";
import { messageEntry, separate, setText } from "./entries.js";

/** @typedef {import("../realtime.js").ServerMessages} ServerMessages */
/** @typedef {ServerMessages["serverHistory"]["messages"][number]} PastMessage */
/** @typedef {ServerMessages["serverNewMessage"] | PastMessage} Message */

/**
 * Called with a message that is stored and its entry, before the entry is in the list; and again when a later state of
 * the message has been loaded.
 *
 * @callback ShowListener
 * @param {HTMLElement} entry
 * @param {Message & { messageId: string }} message
 */

const MAX_ENTRIES = 500;
// While the user reads earlier messages.
const MAX_ENTRIES_SCROLLED = 2_000;

export class MessageList {
  #names;
  #scroller;
  #onTrimmed;
  #userId = "";
  /** The text of each entry that is a message. @type {WeakMap<Element, string>} */
  #textOf = new WeakMap();
  #changes = new Changes();
  /** @type {ShowListener[]} */
  #showListeners = [];
  /** @type {((messageId: string, text: string | null) => void)[]} */
  #changeListeners = [];
  #list = byId("messages", HTMLElement);

  /**
   * @param {import("./names.js").Names} names
   * @param {import("./scroller.js").Scroller} scroller
   * @param {() => void} onTrimmed The first messages are not shown any more.
   */
  constructor(names, scroller, onTrimmed) {
    this.#names = names;
    this.#scroller = scroller;
    this.#onTrimmed = onTrimmed;
  }

  /** @param {ShowListener} listener */
  onShow(listener) {
    this.#showListeners.push(listener);
  }

  /** @param {(messageId: string, text: string | null) => void} listener Called when a message has another text; null: it is deleted. */
  onChange(listener) {
    this.#changeListeners.push(listener);
  }

  /** Show an empty list of another user or room. @param {string} userId */
  clear(userId) {
    this.#userId = userId;
    this.#changes.clear();
    this.#list.replaceChildren();
  }

  get lastEntry() {
    return this.#list.lastElementChild;
  }

  get hasMessages() {
    return this.#list.querySelector(".message") !== null;
  }

  /** The entries of stored messages, in their order. @returns {HTMLElement[]} */
  get stored() {
    return [...this.#list.querySelectorAll("[data-message-id]")].filter((entry) => entry instanceof HTMLElement);
  }

  /** The id of the first message that is shown; undefined without one. @returns {string | undefined} */
  get oldestId() {
    return this.stored[0]?.dataset.messageId;
  }

  /** The id of the last message that is shown; undefined without one. @returns {string | undefined} */
  get newestId() {
    return this.stored.at(-1)?.dataset.messageId;
  }

  /** @param {string} messageId @returns {HTMLElement | undefined} */
  find(messageId) {
    const found = this.#list.querySelector(`[data-message-id="${CSS.escape(messageId)}"]`);
    return found instanceof HTMLElement ? found : undefined;
  }

  /** The text of a message, as it was written. @param {Element} entry */
  textOf(entry) {
    return this.#textOf.get(entry) ?? "";
  }

  /** Return the entry of a message. @param {Message} message @param {number} atMs @returns {HTMLLIElement | null} Null if the message has been deleted. */
  entryOf(message, atMs) {
    const { user, userId, messageId } = message;
    const { revision = 0, edited = false } = "revision" in message ? message : {};
    const change = messageId === undefined ? undefined : this.#changes.after(messageId, revision);
    if (change?.text === null) return null;
    const isOwn = userId === this.#userId;
    const text = change?.text ?? message.text;
    const entry = messageEntry({ user, userId }, text, isOwn ? "You" : this.#names.node({ user, userId }), isOwn, atMs);
    if (edited || change) setText(entry, text, true);
    this.#textOf.set(entry, text);
    if (messageId === undefined) return entry;
    entry.dataset.messageId = messageId;
    entry.dataset.revision = String(change?.revision ?? revision);
    for (const show of this.#showListeners) show(entry, { ...message, messageId });
    return entry;
  }

  /** Add an entry: a stored message where its id belongs, any other one at the end. @param {HTMLElement} entry @param {number} atMs */
  add(entry, atMs) {
    const { messageId = "" } = entry.dataset;
    const next = messageId === "" ? undefined : this.stored.find((other) => String(other.dataset.messageId) > messageId);
    entry.dataset.atMs = String(atMs);
    this.#scroller.keepPlace(() => {
      if (next) {
        next.before(entry);
        this.#separateAll();
      } else {
        const last = this.#list.lastElementChild;
        this.#list.append(entry);
        separate(last, entry);
      }
      this.#trim();
    });
    if (!this.#scroller.isAtBottom && !entry.matches(".system")) this.#scroller.addNewer(1);
  }

  /** Add messages of the past, the oldest first, where they belong; of those that are shown already the later state remains. @param {PastMessage[]} messages */
  addPast(messages) {
    const stored = this.stored;
    const newest = stored.at(-1)?.dataset.messageId ?? "";
    let newer = 0;
    this.#scroller.keepPlace(() => {
      for (const message of messages) {
        const { messageId } = message;
        const shown = stored.find((other) => other.dataset.messageId === messageId);
        const entry = shown ? null : this.entryOf(message, message.at);
        if (shown) this.#update(shown, message);
        if (!entry) continue;
        entry.ariaLive = "off"; // A screen reader does not read out the past.
        let place = stored.length;
        while (place > 0 && String(stored[place - 1]?.dataset.messageId) > messageId) place -= 1;
        const before = stored[place - 1];
        if (before) before.after(entry);
        else this.#list.prepend(entry);
        stored.splice(place, 0, entry);
        newer += Number(newest !== "" && messageId > newest);
      }
      this.#separateAll();
    });
    if (!this.#scroller.isAtBottom) this.#scroller.addNewer(newer);
  }

  /** Show the text of a change, unless a later one is known. @param {string} messageId @param {string} text @param {number} revision */
  edit(messageId, text, revision) {
    if (!this.#changes.add(messageId, { revision, text })) return;
    const entry = this.find(messageId);
    if (!entry || Number(entry.dataset.revision) >= revision) return;
    entry.dataset.revision = String(revision);
    this.#setText(entry, messageId, text);
  }

  /** Show a message no more. @param {string} messageId @param {number} revision */
  delete(messageId, revision) {
    if (this.#changes.add(messageId, { revision, text: null })) this.remove([messageId]);
  }

  /** Remove the entries of messages; the focus moves to the next one. @param {string[]} messageIds */
  remove(messageIds) {
    this.#scroller.keepPlace(() => {
      for (const messageId of messageIds) {
        const entry = this.find(messageId);
        const [stored, hasFocus] = [this.stored, entry?.contains(document.activeElement)];
        const index = entry ? stored.indexOf(entry) : -1;
        entry?.remove();
        if (hasFocus) (stored[index + 1] ?? stored[index - 1] ?? byId("conversation", HTMLElement)).focus();
        for (const listen of this.#changeListeners) listen(messageId, null);
      }
      this.#separateAll();
    });
  }

  /** Show nothing before a message. @param {string} messageId */
  dropBefore(messageId) {
    const entries = [...this.#list.children];
    // The message itself may have been deleted.
    const first = this.stored.find((entry) => String(entry.dataset.messageId) >= messageId);
    this.#scroller.keepPlace(() => {
      this.#removeFirst(first ? entries.slice(0, entries.indexOf(first)) : entries);
      this.#separateAll();
    });
  }

  /** @param {HTMLElement} entry @param {PastMessage} message */
  #update(entry, message) {
    const { messageId, text, revision, edited } = message;
    if (revision > Number(entry.dataset.revision)) {
      entry.dataset.revision = String(revision);
      if (edited && text !== this.textOf(entry)) this.#setText(entry, messageId, text);
    }
    for (const show of this.#showListeners) show(entry, message);
  }

  /** @param {HTMLElement} entry @param {string} messageId @param {string} text */
  #setText(entry, messageId, text) {
    this.#textOf.set(entry, text);
    this.#scroller.keepPlace(() => setText(entry, text, true));
    for (const listen of this.#changeListeners) listen(messageId, text);
  }

  #separateAll() {
    for (const line of this.#list.querySelectorAll(".day")) line.remove();
    const entries = [...this.#list.children].filter((entry) => !entry.matches(".unread-line"));
    for (const [index, entry] of entries.entries()) separate(entries[index - 1] ?? null, entry);
  }

  /** Remove the first entries above the bound; while the user reads earlier messages, only those that are far above. */
  #trim() {
    const { isAtBottom } = this.#scroller;
    const excess = this.#list.childElementCount - (isAtBottom ? MAX_ENTRIES : MAX_ENTRIES_SCROLLED);
    if (excess <= 0) return;
    const first = [...this.#list.children].slice(0, excess);
    const near = isAtBottom ? -1 : first.findIndex((entry) => !this.#scroller.isFarAbove(entry));
    const removed = near === -1 ? first : first.slice(0, near);
    if (removed.length === 0) return;
    this.#removeFirst(removed);
    this.#onTrimmed();
  }

  /** Remove the first entries; the focus moves from them to the conversation. @param {Element[]} entries */
  #removeFirst(entries) {
    if (entries.some((entry) => entry.contains(document.activeElement))) byId("conversation", HTMLElement).focus();
    for (const entry of entries) entry.remove();
    this.#list.firstElementChild?.classList.remove("continued");
  }
}
