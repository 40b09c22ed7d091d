/** Runs the scenarios in Node; `test_realtime.py` starts the servers and passes their addresses. */

import { readFileSync } from "node:fs";
import test from "node:test";

import { scenarios, serviceScenarios, vectorScenarios } from "./realtime_scenarios.js";

const { CLIENT = "", SERVER = "", SERVICE = "", ROOM = "" } = process.env;

/** @type {import("./realtime_scenarios.js").Context} */
const context = {
  realtime: await import(CLIENT),
  url: `${SERVER.replace("http:", "ws:")}/ws/`,
  service: { url: ROOM, signIn },
};

/**
 * Sign in and pass the token as a header: Node's WebSocket has no cookies.
 *
 * @param {string} name
 */
async function signIn(name) {
  const response = await fetch(`${SERVICE}/session`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ name }),
  });
  const { token } = await response.json();
  const WebSocketClass = class extends WebSocket {
    /** @param {string} url */
    constructor(url) {
      super(url, /** @type {any} */ ({ headers: { Authorization: `Bearer ${token}` } }));
    }
  };
  return { WebSocketClass };
}

const vectors = vectorScenarios(JSON.parse(readFileSync(new URL("./realtime_vectors.json", import.meta.url), "utf8")));

for (const { name, run } of [...vectors, ...scenarios, ...serviceScenarios]) test(name, () => run(context));
