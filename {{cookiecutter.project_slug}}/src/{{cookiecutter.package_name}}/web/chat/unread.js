/** Unread messages: the line above the first one, their number in the page's title, and which ones the server counts as read. */

import { element } from "../page.js";
import { RequestError } from "../realtime.js";
import { plainName, roomLabel } from "./elements.js";

/** @typedef {import("../realtime.js").RealtimeClient} RealtimeClient */

const MARK_EVERY_MS = 2_000;
// The errors after which the server has not marked the message.
const RETRIED_ERRORS = ["disconnected", "notSent", "timeout", "tooManyMessages", "unavailable"];

export class Unread {
  #list;
  #scroller;
  /** @type {RealtimeClient | null} */
  #client = null;
  /** The room in the title; null while the title is the project's. @type {string | null} */
  #room = null;
  /** The number of entries since the page was hidden. */
  #count = 0;
  /** The message after which the line is; null without a line. @type {string | null} */
  #lineAfter = null;
  /** The latest message that the user has read, as far as the page knows. */
  #read = "";
  /** The latest message that this page has marked as read. */
  #marked = "";
  #markTimer = 0;
  #projectName = document.title;
  #line = element("li", "unread-line", element("span", "", "New messages"));

  /** @param {import("./message-list.js").MessageList} list @param {import("./scroller.js").Scroller} scroller */
  constructor(list, scroller) {
    this.#list = list;
    this.#scroller = scroller;
    this.#line.ariaLive = "off";
    list.onChange((_, text) => text === null && this.update());
    document.addEventListener("visibilitychange", () => this.#look());
    addEventListener("pagehide", () => this.#flush());
    addEventListener("focus", () => this.#look());
  }

  /** The page shows a room. @param {string} room @param {RealtimeClient} client @param {boolean} isContinued Whether it has shown it before. */
  open(room, client, isContinued) {
    if (!isContinued) {
      this.#lineAfter = null;
      this.#read = this.#marked = "";
      this.#count = 0;
    }
    this.#client = client;
    this.#room = room;
    client.on("serverReadMarker", (marker) => marker.room === roomLabel(room) && this.#receiveMarker(marker.messageId));
    // What was read, or marked, while the connection was lost.
    client.onStatus(({ state }) => {
      if (state === "open" && client === this.#client) this.#mark();
    });
    this.#showTitle();
  }

  /** The page leaves the room. */
  close() {
    this.#flush();
    this.#client = null;
  }

  hideTitle() {
    this.#room = null;
    document.title = this.#projectName;
  }

  /** The last messages have been loaded. @param {string | null} readTo The last one that the user has read. @param {boolean} isFirst Whether none was shown before. */
  load(readTo, isFirst) {
    this.#read = later(this.#read, readTo ?? "");
    if (readTo !== null && (isFirst || !isAttentive())) this.#lineAfter = isFirst ? readTo : this.#read;
    this.update();
  }

  /** There is a new entry. @param {HTMLElement} entry */
  add(entry) {
    const isOwn = entry.matches(".own");
    if (document.hidden && !isOwn && !entry.matches(".system")) {
      this.#count += 1;
      this.#showTitle();
    }
    const { messageId = "" } = entry.dataset;
    // Another page may have marked the message already. Where the user has read nothing, a line would separate nothing.
    const isUnread = this.#read !== "" && messageId > this.#read;
    if (isOwn) this.#lineAfter = null;
    else if (isUnread && !isAttentive()) this.#lineAfter = later(this.#lineAfter ?? "", this.#read);
    this.update();
  }

  /** Messages, or the part that is visible, have changed. */
  update() {
    this.#placeLine();
    const newest = this.#list.newestId;
    if (newest === undefined || !isAttentive() || !this.#scroller.isAtBottom) return;
    this.#read = later(this.#read, newest);
    this.#mark();
  }

  #look() {
    if (!document.hidden && this.#count > 0) {
      this.#count = 0;
      this.#showTitle();
    }
    this.update();
  }

  /** Another page of the user, or this one, has marked messages as read. @param {string} messageId */
  #receiveMarker(messageId) {
    this.#read = later(this.#read, messageId);
    if (messageId <= this.#marked) return;
    if (this.#lineAfter !== null) this.#lineAfter = later(this.#lineAfter, messageId);
    if (this.#read >= (this.#list.newestId ?? "")) this.#count = 0;
    this.#showTitle();
    this.#placeLine();
  }

  /** Put the line above the first unread message of another user. */
  #placeLine() {
    const after = this.#lineAfter;
    const first = after === null ? undefined : this.#list.stored.find((entry) => String(entry.dataset.messageId) > after && !entry.matches(".own"));
    if (first === undefined ? !this.#line.isConnected : first.previousElementSibling === this.#line) return;
    this.#scroller.keepPlace(() => {
      this.#line.remove();
      first?.before(this.#line);
    });
  }

  /** Tell the server what has been read, once in a while. */
  async #mark() {
    const client = this.#client;
    if (this.#markTimer !== 0 || this.#read <= this.#marked || client?.state !== "open") return;
    const before = this.#marked;
    this.#marked = this.#read;
    this.#markTimer = setTimeout(() => {
      this.#markTimer = 0;
      this.#mark();
    }, MARK_EVERY_MS);
    try {
      await client.request("clientMarkRead", { messageId: this.#marked });
    } catch (error) {
      const isRetried = error instanceof RequestError && RETRIED_ERRORS.includes(error.code);
      if (isRetried && client === this.#client) this.#marked = before;
    }
  }

  /** Mark at once what has been read. */
  #flush() {
    clearTimeout(this.#markTimer);
    this.#markTimer = 0;
    if (this.#read <= this.#marked || this.#client?.state !== "open") return;
    this.#marked = this.#read;
    this.#client.send("clientMarkRead", { messageId: this.#read });
  }

  #showTitle() {
    if (this.#room === null) return;
    const count = this.#count > 0 ? `(${this.#count}) ` : "";
    document.title = `${count}${plainName(roomLabel(this.#room))} · ${this.#projectName}`;
  }
}

function isAttentive() {
  return !document.hidden && document.hasFocus();
}

/** @param {string} one @param {string} other */
function later(one, other) {
  return one > other ? one : other;
}
