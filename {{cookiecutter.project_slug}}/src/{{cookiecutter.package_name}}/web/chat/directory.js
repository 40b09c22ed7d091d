/** The rooms of the server that the user may see: loaded again and again while the page is visible. */

/** @typedef {import("../realtime.js").RealtimeClient} RealtimeClient */
/** @typedef {import("../realtime.js").ServerMessages["serverRooms"]["rooms"]} ServerRooms */

const EVERY_MS = 10_000;
const NOT_SOONER_MS = 2_000;
const JITTER_MS = 2_000; // Many pages enter a room at once when a server restarts.

export class Directory {
  #onLoaded;
  /** @type {RealtimeClient | null} */
  #client = null;
  #timer = 0;
  #loadedMs = -Infinity;

  /** @param {(rooms: ServerRooms) => void} onLoaded */
  constructor(onLoaded) {
    this.#onLoaded = onLoaded;
    document.addEventListener("visibilitychange", () => this.#load());
  }

  /** Load the rooms over this connection from now on. @param {RealtimeClient} client */
  open(client) {
    this.#client = client;
    this.#loadedMs = -Infinity;
    client.onStatus(({ state }) => state === "open" && client === this.#client && this.#load());
  }

  close() {
    this.#client = null;
    clearTimeout(this.#timer);
  }

  async #load() {
    const client = this.#client;
    clearTimeout(this.#timer);
    if (document.hidden || client?.state !== "open") return;
    const waitMs = this.#loadedMs + NOT_SOONER_MS - performance.now();
    if (waitMs > 0) {
      this.#timer = setTimeout(() => this.#load(), waitMs);
      return;
    }
    this.#loadedMs = performance.now();
    this.#timer = setTimeout(() => this.#load(), EVERY_MS + (Math.random() - 0.5) * JITTER_MS);
    try {
      const { payload } = await client.request("clientLoadRooms", {});
      if (client === this.#client) this.#onLoaded(payload.rooms);
    } catch {
      // The rooms that are shown remain; the next attempt follows.
    }
  }
}
