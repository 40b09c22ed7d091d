/** Connects and comes to an end in the named way; nothing here ends the process. */

import process from "node:process";

const [client, url, way] = process.argv.slice(2);
const { connect } = await import(String(client));

const STEPS = { connecting: "silent", open: "echo", waiting: "close:1012", terminal: "close:4401" };
const hourMs = 3_600_000;

const made = connect(`${url}?steps=${STEPS[/** @type {keyof typeof STEPS} */ (way)]}`, {
  baseDelayMs: hourMs,
  maxDelayMs: hourMs,
  connectTimeoutMs: hourMs,
});
made.onStatus((/** @type {Record<"state", string>} */ { state }) => {
  if (state === way) made.close();
  if (state === "closed") console.log(`closed: ${way}`);
});
if (way === "connecting") made.close();
