/** Closes a client in the given state. Nothing else ends the process: an open handle would keep it running. */

import process from "node:process";

const [client, url, closingState] = process.argv.slice(2);
const { connect } = await import(String(client));

const STEPS = { connecting: "silent", open: "echo", waiting: "close:1012", terminal: "close:4401" };
const hourMs = 3_600_000;

const made = connect(`${url}?steps=${STEPS[/** @type {keyof typeof STEPS} */ (closingState)]}`, {
  baseDelayMs: hourMs,
  maxDelayMs: hourMs,
  connectTimeoutMs: hourMs,
});
made.onStatus((/** @type {Record<"state", string>} */ { state }) => {
  if (state === closingState) made.close();
  if (state === "closed") console.log(`closed: ${closingState}`);
});
if (closingState === "connecting") made.close();
