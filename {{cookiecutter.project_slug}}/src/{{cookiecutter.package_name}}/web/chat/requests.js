/** Requests for which the page shows nothing but their failure: what they change arrives as a message for all. */

import { RequestError } from "../realtime.js";
import { withLocalTimes } from "./elements.js";

/** @typedef {import("../realtime.js").RealtimeClient} RealtimeClient */

export class Requests {
  #connection;
  #onError;

  /** @param {import("./connection.js").Connection} connection @param {(problem: string) => void} onError */
  constructor(connection, onError) {
    this.#connection = connection;
    this.#onError = onError;
  }

  /** @param {(client: RealtimeClient) => Promise<unknown>} request @returns {Promise<boolean>} Whether it was done; if not, the page shows why. */
  async run(request) {
    const { client } = this.#connection;
    try {
      if (client === null) throw new RequestError("notSent", "");
      await request(client);
      return true;
    } catch (error) {
      if (client === this.#connection.client) this.#onError(problemOf(error));
      return false;
    }
  }
}

/** @param {unknown} error */
function problemOf(error) {
  if (!(error instanceof RequestError)) throw error;
  if (error.code === "notSent") return "This was not done: you are not connected.";
  if (error.code === "timeout" || error.code === "disconnected") return "The server has not confirmed this: look whether it was done.";
  return withLocalTimes(error.message);
}
