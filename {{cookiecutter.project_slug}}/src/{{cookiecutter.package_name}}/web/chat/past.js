/** The past of the room: pages of messages from the server's store, joined to those that arrive. */

import { byId, setShown } from "../page.js";
import { RequestError } from "../realtime.js";

/** @typedef {import("../realtime.js").RealtimeClient} RealtimeClient */
/** @typedef {import("./message-list.js").PastMessage} PastMessage */

/**
 * @typedef {object} PastEvents
 * @property {(readTo: string | null, isFirst: boolean) => void} onLast The last messages have been loaded. The user has read the room up to `readTo`; `isFirst`: none was loaded before.
 * @property {() => void} onLoaded
 * @property {(note: string) => void} onLost The server stores no messages.
 */

const LOAD_ABOVE_PX = 300;
const NOT_STORED = "notStored";
const NOT_CONNECTED = ["disconnected", "notSent"];
// A longer gap is not filled while the user reads the messages before it: these are loaded again while the user scrolls up.
const MAX_GAP_PAGES = 10;

export class Past {
  #conversation;
  #events;
  /** @type {RealtimeClient | null} */
  #client = null;
  /** Whether the server is known to store messages. */
  #isStored = false;
  #isLoading = false;
  #hasFailed = false;
  /** Whether the last messages of the room have been loaded. */
  #isLoaded = false;
  /** Whether there are messages before the first one that is shown. */
  #hasMore = false;
  /** The note about missing messages, until they have been loaded. @type {string | null} */
  #gapNote = null;
  /** The last message before the gap. @type {string | undefined} */
  #lastBeforeGap;
  #frame = byId("conversation", HTMLElement);
  #earlier = byId("earlier", HTMLButtonElement);

  /**
   * @param {import("./conversation.js").Conversation} conversation
   * @param {PastEvents} events
   */
  constructor(conversation, events) {
    this.#conversation = conversation;
    this.#events = events;
    this.#earlier.addEventListener("click", () => this.#retry());
    this.#frame.addEventListener("scroll", () => this.#fill());
  }

  get isStored() {
    return this.#isStored;
  }

  get hasMore() {
    return this.#hasMore;
  }

  /** The page shows a room. @param {RealtimeClient} client @param {boolean} isContinued Whether it shows its messages already. */
  open(client, isContinued) {
    if (!isContinued) {
      this.#isLoaded = this.#hasMore = false;
      this.#gapNote = null;
      this.#lastBeforeGap = undefined;
    }
    this.#client = client;
    this.#isLoading = this.#hasFailed = false;
    client.onStatus(({ state }) => {
      if (state === "open" && client === this.#client) this.#catchUp();
    });
    this.#show();
  }

  close() {
    this.#client = null;
    this.#show();
  }

  /** The first messages are not shown any more, but can be loaded again. */
  offer() {
    this.#hasMore = true;
    this.#show();
  }

  /** Load the messages that the page has missed since the last one that it shows. @param {string} note In case that they are lost. */
  fillGap(note) {
    if (this.#gapNote === null) this.#lastBeforeGap = this.#conversation.list.newestId;
    this.#gapNote = note;
    this.#catchUp();
  }

  /** Load the last messages, unless nothing is missing. */
  #catchUp() {
    if (this.#isBehind) this.#run((client) => this.#loadLast(client));
  }

  get #isBehind() {
    return !this.#isLoaded || this.#gapNote !== null;
  }

  /** Load earlier messages while the user reads the first ones. */
  #fill() {
    const isNear = this.#frame.clientHeight > 0 && this.#frame.scrollTop < LOAD_ABOVE_PX;
    if (isNear && this.#hasMore && !this.#hasFailed) this.#run((client) => this.#loadEarlier(client));
  }

  #retry() {
    this.#hasFailed = false;
    if (this.#isBehind) this.#catchUp();
    else this.#run((client) => this.#loadEarlier(client));
  }

  /** @param {(client: RealtimeClient) => Promise<boolean>} load Returns whether messages were added. */
  async #run(load) {
    const client = this.#client;
    if (this.#isLoading || client?.state !== "open") return;
    this.#isLoading = true;
    let isContinued = false;
    try {
      isContinued = await load(client);
      this.#hasFailed &&= client !== this.#client;
    } catch (error) {
      if (client === this.#client) this.#receiveError(error);
    }
    if (client !== this.#client) return;
    this.#isLoading = false;
    this.#show();
    this.#events.onLoaded();
    if (this.#hasFailed) return;
    this.#catchUp();
    if (isContinued) this.#fill();
  }

  /** @param {unknown} error */
  #receiveError(error) {
    const code = error instanceof RequestError ? error.code : "";
    if (code === NOT_STORED) {
      if (this.#gapNote !== null) this.#events.onLost(this.#gapNote);
      this.#isStored = false;
      this.#isLoaded = true;
      this.#gapNote = null;
    } else {
      this.#hasFailed = !NOT_CONNECTED.includes(code); // The next connection tries again.
    }
  }

  /**
   * Load the last messages, and show none before a gap as if they joined: at the bottom all before the loaded ones are
   * forgotten. While the user reads earlier ones, pages are loaded until they join those, and shown then.
   *
   * @param {RealtimeClient} client
   */
  async #loadLast(client) {
    const gapNote = this.#gapNote;
    const { list, scroller } = this.#conversation;
    const shown = list.stored.map((entry) => String(entry.dataset.messageId));
    const last = await this.#request(client, undefined);
    let { messages, hasMore } = last;
    for (let pages = 1; hasMore && pages < MAX_GAP_PAGES && this.#isApart(messages); pages += 1) {
      const earlier = await this.#request(client, messages[0]?.messageId);
      messages = [...earlier.messages, ...messages];
      hasMore = earlier.hasMore;
    }
    if (client !== this.#client) return false;
    const isUnjoined = !this.#isLoaded || this.#lastBeforeGap === undefined || this.#isApart(messages);
    const isCut = hasMore && (isUnjoined || scroller.isAtBottom);
    this.#conversation.addPast(messages);
    list.remove(missing(shown, messages, hasMore));
    if (isCut) list.dropBefore(String(messages[0]?.messageId));
    this.#hasMore = hasMore && (isCut || this.#hasMore);
    this.#events.onLast(last.readTo ?? null, !this.#isLoaded);
    this.#isLoaded = this.#isStored = true;
    if (this.#gapNote === gapNote) this.#gapNote = null;
    return messages.length > 0;
  }

  /** Whether the user reads messages before the gap, which the last messages do not join. @param {PastMessage[]} messages The last ones. */
  #isApart([first]) {
    const last = this.#lastBeforeGap;
    return !this.#conversation.scroller.isAtBottom && last !== undefined && first !== undefined && first.messageId > last;
  }

  /** @param {RealtimeClient} client */
  async #loadEarlier(client) {
    const { messages, hasMore } = await this.#request(client, this.#conversation.list.oldestId);
    if (client !== this.#client) return false;
    this.#conversation.addPast(messages);
    this.#hasMore = hasMore;
    return messages.length > 0;
  }

  /** @param {RealtimeClient} client @param {string | undefined} before The id of a message; the last ones without it. */
  async #request(client, before) {
    const { payload } = await client.request("clientLoadHistory", before === undefined ? {} : { before });
    return payload;
  }

  #show() {
    setShown(this.#earlier, this.#client !== null && (this.#hasMore || this.#hasFailed), this.#frame);
    this.#earlier.textContent = this.#hasFailed ? "Earlier messages could not be loaded. Try again" : "Load earlier messages";
  }
}

/** Return the messages that are not among the last ones where they would be: they have been deleted. @param {string[]} shown @param {PastMessage[]} messages @param {boolean} hasMore */
function missing(shown, messages, hasMore) {
  const found = new Set(messages.map(({ messageId }) => messageId));
  const first = hasMore ? (messages[0]?.messageId ?? "") : "";
  return shown.filter((id) => id >= first && !found.has(id));
}
