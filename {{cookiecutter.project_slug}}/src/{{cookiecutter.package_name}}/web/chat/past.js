/** The past of the room: pages of messages from the server's store, joined to those that arrive. */

import { byId } from "../page.js";
import { RequestError } from "../realtime.js";

/** @typedef {import("../realtime.js").RealtimeClient} RealtimeClient */

const LOAD_ABOVE_PX = 300;
const NOT_STORED = "notStored";

export class Past {
  #conversation;
  #onLoaded;
  /** @type {RealtimeClient | null} */
  #client = null;
  #isLoading = false;
  #frame = byId("conversation", HTMLElement);
  #earlier = byId("earlier", HTMLButtonElement);

  /** @param {import("./conversation.js").Conversation} conversation @param {() => void} onLoaded */
  constructor(conversation, onLoaded) {
    this.#conversation = conversation;
    this.#onLoaded = onLoaded;
    this.#earlier.addEventListener("click", () => this.#load(conversation.oldestId));
    this.#frame.addEventListener("scroll", () => this.#fill());
  }

  /** The page shows a room. @param {RealtimeClient} client @param {boolean} isContinued Whether it shows messages already. */
  open(client, isContinued) {
    this.#client = client;
    this.#isLoading = false;
    if (!isContinued) this.load();
  }

  close() {
    this.#client = null;
    this.#earlier.hidden = true;
  }

  /** Earlier messages than the first one that is shown can be loaded. */
  offer() {
    this.#show("idle");
    this.#earlier.hidden = false;
  }

  /** Load the last messages, and return whether none is missing between them and those that are shown. */
  load() {
    return this.#load(undefined);
  }

  /** Load earlier messages while the user reads the first ones. */
  #fill() {
    const isWanted = !this.#earlier.hidden && this.#frame.scrollTop < LOAD_ABOVE_PX;
    if (isWanted && this.#earlier.dataset.state === "idle") this.#load(this.#conversation.oldestId);
  }

  /** @param {string | undefined} before The id of a message; the last ones without it. @returns {Promise<boolean>} */
  async #load(before) {
    const client = this.#client;
    if (this.#isLoading || !client) return false;
    this.#isLoading = true;
    try {
      const { payload } = await client.request("clientLoadHistory", before === undefined ? {} : { before });
      if (client !== this.#client) return false;
      const { messages, hasMore } = payload;
      const isJoined = !hasMore || messages.some(({ messageId }) => this.#conversation.has(messageId));
      this.#conversation.addPast(messages);
      this.#show("idle");
      if (this.#conversation.oldestId === messages[0]?.messageId) this.#earlier.hidden = !hasMore;
      this.#onLoaded();
      return isJoined;
    } catch (error) {
      if (client !== this.#client) return false;
      this.#show("failed");
      this.#earlier.hidden = error instanceof RequestError && error.code === NOT_STORED;
      return false;
    } finally {
      if (client === this.#client) {
        this.#isLoading = false;
        this.#fill();
      }
    }
  }

  /** @param {"idle" | "failed"} state */
  #show(state) {
    this.#earlier.dataset.state = state;
    this.#earlier.textContent = state === "idle" ? "Load earlier messages" : "Earlier messages could not be loaded. Try again";
  }
}
