/** Runs the scenarios in Node; `test_realtime.py` starts what they talk to and says where it is. */

import test from "node:test";

import { scenarios, serviceScenarios } from "./realtime_scenarios.js";

const { CLIENT = "", COUNTERPART = "", SERVICE = "", ROOM = "" } = process.env;

/** @type {import("./realtime_scenarios.js").Context} */
const context = {
  realtime: await import(CLIENT),
  url: `${COUNTERPART.replace("http:", "ws:")}/ws/`,
  service: { url: ROOM, signIn },
};

/**
 * What a browser does with a cookie: Node's WebSocket has no cookies, but takes headers.
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

for (const { name, run } of [...scenarios, ...serviceScenarios]) test(name, () => run(context));
