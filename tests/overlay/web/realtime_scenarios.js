/**
 * The guarantees of realtime.js, as scenarios that run in Node and in a browser.
 *
 * Most of them use real connections to `scripted_server.py`; those about exact times and bounds
 * simulate the server, the clock and randomness, without waiting.
 */

/**
 * @typedef {object} Context
 * @property {any} realtime The module `realtime.js`.
 * @property {string} url The base URL of the scripted server: `ws://127.0.0.1:1234/ws/`.
 * @property {Service} [service] Only for `serviceScenarios`.
 */

/**
 * @typedef {object} Service
 * @property {string} url The URL of a room of the service.
 * @property {(name: string) => Promise<object>} signIn Returns the options for connections of this user.
 */

/** @typedef {Record<"name", string> & Record<"run", (context: Context) => void | Promise<void>>} Scenario */

const WAIT_MS = 10_000;
const QUICK = { baseDelayMs: 20, maxDelayMs: 40 };
const NEVER_AGAIN = { baseDelayMs: 3_600_000, maxDelayMs: 3_600_000 };

const TERMINAL = [1002, 1003, 1007, 1008, 1009, 1010, 3400, 3401, 3403, 3404, 3499, 4400, 4401, 4403, 4408, 4499];
const RETRYABLE = [1000, 1001, 1011, 1012, 1013, 1014, 3000, 3399, 3408, 3425, 3429, 3500, 4000, 4008, 4029, 4399, 4429, 4500];

// --- Assertions and waits ---------------------------------------------------------------------------

/** @param {unknown} condition @param {string} description */
function check(condition, description) {
  if (!condition) throw new Error(description);
}

/** @param {unknown} actual @param {unknown} expected @param {string} [description] */
function equal(actual, expected, description = "") {
  const [actualJson, expectedJson] = [JSON.stringify(actual), JSON.stringify(expected)];
  check(actualJson === expectedJson, `${description}: expected ${expectedJson}, got ${actualJson}`);
}

/** @param {() => void} action @param {string} name */
function throws(action, name) {
  try {
    action();
  } catch (error) {
    equal(error instanceof Error && error.name, name);
    return;
  }
  check(false, `expected ${name}, but nothing was thrown`);
}

/**
 * Wait for a result, with a timeout.
 *
 * @template T
 * @param {string} description
 * @param {(resolve: (value: T) => void) => void} start
 * @returns {Promise<T>}
 */
async function bounded(description, start) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  try {
    return await new Promise((resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`timeout while waiting for ${description}`)), WAIT_MS);
      start(resolve);
    });
  } finally {
    clearTimeout(timer);
  }
}

/** Wait for a state and return the status. @param {any} client @param {string} state @returns {Promise<any>} */
function reachState(client, state) {
  return bounded(state, (resolve) => {
    if (client.state === state) resolve(client.status);
    client.onStatus((/** @type {any} */ status) => status.state === state && resolve(status));
  });
}

/** Wait for the next message of a type and return its payload. @param {any} client @param {string} type @returns {Promise<any>} */
function next(client, type) {
  return bounded(type, (resolve) => {
    const stop = client.on(type, (/** @type {any} */ payload) => {
      stop();
      resolve(payload);
    });
  });
}

/** Record the payloads of all messages of a type. @param {any} client @param {string} type */
function collect(client, type) {
  /** @type {any[]} */
  const payloads = [];
  client.on(type, (/** @type {any} */ payload) => payloads.push(payload));
  return payloads;
}

/**
 * Wait for a number of messages of a type. Node may dispatch several at once, which `next` would miss.
 *
 * @param {any} client
 * @param {string} type
 * @param {number} count
 * @returns {Promise<any[]>}
 */
function gather(client, type, count) {
  return bounded(`${count} of ${type}`, (resolve) => {
    const payloads = /** @type {any[]} */ ([]);
    client.on(type, (/** @type {any} */ payload) => payloads.push(payload) === count && resolve(payloads));
  });
}

/** Record all further statuses. @param {any} client */
function statuses(client) {
  /** @type {any[]} */
  const seen = [];
  client.onStatus((/** @type {any} */ status) => seen.push(status));
  return seen;
}

/**
 * Connect to the scripted server under a unique name, and close the client afterwards.
 *
 * @param {Context} context
 * @param {string} steps
 * @param {object} options
 * @param {(client: any, name: string) => Promise<void>} action
 */
async function withClient({ realtime, url }, steps, options, action) {
  const address = new URL(`${url}${crypto.randomUUID()}?steps=${steps}`);
  const client = realtime.connect(address, options);
  try {
    await action(client, address.pathname);
  } finally {
    client.close();
  }
}

/** Remove the id of the client from a URL or a query; without one, return it unchanged. @param {string} text */
function withoutClient(text) {
  return text.replace(/[?&]client=[0-9a-f]{32}$|client=[0-9a-f]{32}&/, "");
}

/**
 * Wait until this number of connections of a name is open, and return the server's report on the name.
 *
 * @param {Context} context
 * @param {string} name
 * @param {number} open
 * @returns {Promise<{ connections: number, queries: string[], received: any[] }>}
 */
async function report(context, name, open) {
  /** @type {any} */
  let answer;
  await withClient(context, "echo", {}, async (client) => {
    client.send("report", { name, open });
    answer = await next(client, "report");
  });
  answer.queries = answer.queries.map(withoutClient);
  return answer;
}

/** Return the console's warnings and errors during an action. @param {() => void | Promise<void>} action */
async function warnings(action) {
  /** @type {any[]} */
  const received = [];
  const restore = replace(console, { error: received.push.bind(received), warn: received.push.bind(received) });
  try {
    await action();
  } finally {
    restore();
  }
  return received;
}

/** @param {object} object @param {Record<string, unknown>} values @returns {() => void} Restores the values. */
function replace(object, values) {
  const before = Object.keys(values).map((name) => ({ name, was: Object.getOwnPropertyDescriptor(object, name) }));
  for (const [name, value] of Object.entries(values)) {
    Object.defineProperty(object, name, { value, configurable: true, writable: true });
  }
  return () => {
    for (const { name, was } of before) {
      Reflect.deleteProperty(object, name);
      if (was) Object.defineProperty(object, name, was);
    }
  };
}

/** @param {object} object @param {string} name @param {() => unknown} get @returns {() => void} Removes the getter. */
function replaceGetter(object, name, get) {
  Object.defineProperty(object, name, { get, configurable: true });
  return () => void Reflect.deleteProperty(object, name);
}

// --- Simulation -------------------------------------------------------------------------------------

/** A socket whose server side is the scenario. */
class FakeSocket extends EventTarget {
  readyState = 0;
  bufferedAmount = 0;
  /** @type {string[]} */
  sent = [];
  /** @type {unknown[][]} */
  closings = [];
  /** Called during `close`. */
  onClosing = () => {};

  /** @param {string} text */
  send(text) {
    check(this.readyState === 1, "it sends without a connection");
    this.sent.push(text);
  }

  /** @param {number} [code] @param {string} [reason] */
  close(code, reason) {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999)) {
      throw new DOMException("invalid code", "InvalidAccessError");
    }
    this.closings.push([code, reason]);
    this.readyState = 2;
    this.onClosing();
  }

  open() {
    this.readyState = 1;
    this.dispatchEvent(new Event("open"));
  }

  fail() {
    this.dispatchEvent(new Event("error"));
  }

  /** @param {unknown} message */
  receive(message) {
    this.dispatchEvent(Object.assign(new Event("message"), { data: JSON.stringify(message) }));
  }

  /** @param {number} code @param {string} [reason] */
  end(code, reason = "") {
    this.readyState = 3;
    this.dispatchEvent(Object.assign(new Event("close"), { code, reason }));
  }
}

/** Simulated clock, randomness, network and console. */
class Simulation {
  nowMs = 1_000_000;
  /** What the clock shows at the start of the simulation. */
  clockMs = 1_700_000_000_000;
  random = 0.5;
  lastTimer = 0;
  /** @type {Map<number, { atMs: number, call: () => void }>} */
  timers = new Map();
  /** @type {FakeSocket[]} */
  sockets = [];
  /** @type {string[]} */
  urls = [];
  /** The client's listeners for events of the page, each with its type. @type {Map<(event: Event) => void, Set<string>>} */
  listeners = new Map();
  visibilityState = "visible";
  /** @type {any[]} */
  warnings = [];

  get socket() {
    return this.sockets[this.sockets.length - 1];
  }

  /** Advance the clock. @param {number} ms */
  pass(ms) {
    const endMs = this.nowMs + ms;
    for (;;) {
      const [first] = [...this.timers].sort(([, a], [, b]) => a.atMs - b.atMs);
      if (!first || first[1].atMs > endMs) break;
      this.timers.delete(first[0]);
      this.nowMs = Math.max(this.nowMs, first[1].atMs);
      first[1].call();
    }
    this.nowMs = endMs;
  }

  /** Dispatch an event of the page. @param {string} type */
  dispatch(type) {
    for (const [listener, types] of [...this.listeners]) if (types.has(type)) listener(new Event(type));
  }

  /** Send a position that announces a heartbeat. @param {string} id @param {number} [heartbeatSeconds] */
  announce(id, heartbeatSeconds = 20) {
    this.socket?.receive({ type: "serverPosition", payload: { connection: "c", heartbeatSeconds }, id });
  }

  /** The time until the client's only timer, or null. */
  get waitMs() {
    const [timer] = this.timers.values();
    equal(this.timers.size <= 1, true, "more than one timer");
    return timer ? timer.atMs - this.nowMs : null;
  }
}

/**
 * Functions that register listeners with a simulation; only these types are expected.
 *
 * @param {Simulation} simulation
 * @param {string[]} expected
 */
function events({ listeners }, expected) {
  return {
    /** @param {string} type @param {(event: Event) => void} listener */
    addEventListener(type, listener) {
      check(expected.includes(type), `a listener for ${type}`);
      listeners.set(listener, (listeners.get(listener) ?? new Set()).add(type));
    },
    /** @param {string} type @param {(event: Event) => void} listener */
    removeEventListener(type, listener) {
      check(listeners.get(listener)?.delete(type), `no listener for ${type}`);
      if (!listeners.get(listener)?.size) listeners.delete(listener);
    },
  };
}

/**
 * Create a scenario that runs in a simulation. It may wait for promises that are settled already, and for nothing else.
 *
 * @param {string} name
 * @param {(simulation: Simulation, connect: (options?: object) => any, context: Context) => void | Promise<void>} scenario
 * @returns {Scenario}
 */
function simulated(name, scenario) {
  const run = async (/** @type {Context} */ context) => {
    const simulation = new Simulation();
    // NOTE: a browser's document cannot be replaced as a whole, and Node has none.
    const page = globalThis.document ?? {};
    const undo = [
      globalThis.document ? () => {} : replace(globalThis, { document: page }),
      replace(page, events(simulation, ["visibilitychange"])),
      replaceGetter(page, "visibilityState", () => simulation.visibilityState),
      replace(globalThis, {
        setTimeout(/** @type {() => void} */ call, /** @type {number} */ ms) {
          simulation.timers.set(++simulation.lastTimer, { atMs: simulation.nowMs + ms, call });
          return simulation.lastTimer;
        },
        clearTimeout: (/** @type {number} */ timer) => simulation.timers.delete(timer),
        ...events(simulation, ["online", "pageshow"]),
        WebSocket: class extends FakeSocket {
          /** @param {string} url */
          constructor(url) {
            super();
            simulation.sockets.push(this);
            simulation.urls.push(url);
          }
        },
      }),
      replace(Date, { now: () => simulation.nowMs + simulation.clockMs }),
      replace(performance, { now: () => simulation.nowMs }),
      replace(Math, { random: () => simulation.random }),
      replace(console, {
        error: (/** @type {any} */ message) => simulation.warnings.push(message),
        warn: (/** @type {any} */ message) => simulation.warnings.push(message),
      }),
    ];
    try {
      await scenario(simulation, (options) => context.realtime.connect("ws://server.test/room", options), context);
    } finally {
      for (const restore of undo) restore();
    }
  };
  return { name, run };
}

/** Return the error of a promise that is rejected. @param {Promise<any>} promise @returns {Promise<any>} */
function outcome(promise) {
  return promise.then(
    () => check(false, "it is fulfilled"),
    (error) => error,
  );
}

/** Let the callbacks of settled promises run. */
async function settle() {
  for (let step = 0; step < 20; step += 1) await null;
}

/** Promises that the scenario settles, in the order in which they are requested. */
function controlled() {
  /** @type {{ resolve: (value: string | null) => void, reject: (error: unknown) => void }[]} */
  const calls = [];
  const call = () => new Promise((resolve, reject) => calls.push({ resolve, reject }));
  return { calls, call };
}

/** @param {Simulation} simulation @param {any} client */
function expectReleased(simulation, client) {
  equal(client.state, "closed");
  equal(simulation.timers.size, 0, "timers left");
  equal(simulation.listeners.size, 0, "listeners left");
  equal(client.queuedMessages, 0, "messages left");
  for (const socket of simulation.sockets) check(socket.readyState >= 2, "a socket is left open");
  const sockets = simulation.sockets.length;
  client.retryNow();
  simulation.pass(3_600_000);
  equal(simulation.sockets.length, sockets, "it connects again");
  equal(client.send("late"), false, "a message was accepted");
}

// --- Close codes and delays -------------------------------------------------------------------------

/** @type {Scenario[]} */
export const scenarios = [
  simulated("a client closes on each terminal code and retries on each other one", (simulation, connect, { realtime }) => {
    for (let code = 1000; code <= 4999; code++) {
      const client = connect();
      simulation.socket?.open();
      simulation.socket?.end(code, "why");
      const state = realtime.isTerminalCode(code) ? "closed" : "waiting";
      equal([client.state, client.status.code, client.status.reason], [state, code, "why"], `code ${code}`);
      if (state === "closed") equal(simulation.timers.size, 0, `timers after ${code}`);
      client.close();
    }
    equal([simulation.timers.size, simulation.listeners.size], [0, 0], "timers and listeners left");
  }),

  {
    name: "delays cover the whole range: full jitter",
    run({ realtime }) {
      const delays = Array.from({ length: 2_000 }, () => realtime.retryDelayMs(3, 100, 10_000));
      check(delays.every((delay) => delay >= 0 && delay < 800), "a wait is out of bounds");
      for (let tenth = 0; tenth < 10; tenth++) {
        check(delays.some((delay) => Math.floor(delay / 80) === tenth), `no wait in tenth ${tenth}`);
      }
    },
  },

  simulated("an attempt times out, and its later events are ignored", (simulation, connect) => {
    const client = connect({ connectTimeoutMs: 700, baseDelayMs: 100 });
    const received = collect(client, "late");
    const slow = simulation.socket;
    simulation.pass(699);
    equal(client.state, "connecting");
    simulation.pass(1);
    equal(client.status, { state: "waiting", nextTryAtMs: Date.now() + 50, code: 1006, reason: "" });
    equal(slow?.closings.length, 1, "closings");
    slow?.open();
    slow?.receive({ type: "late" });
    slow?.fail();
    slow?.end(4401);
    equal([client.state, received.length, simulation.waitMs], ["waiting", 0, 50]);
    simulation.pass(50);
    simulation.socket?.open();
    slow?.end(1006);
    equal([client.state, simulation.timers.size], ["open", 0]);
  }),

  simulated("options that are undefined have their defaults", (simulation, connect) => {
    const client = connect({ baseDelayMs: undefined, connectTimeoutMs: undefined, maxQueuedMessages: undefined });
    equal(simulation.waitMs, 10_000, "timeout");
    simulation.socket?.fail();
    equal(simulation.waitMs, 250, "wait");
    for (let number = 1; number <= 101; number++) equal(client.send("a"), number <= 100, `message ${number}`);
  }),

  // --- Closing and reconnecting ----------------------------------------------------------------------

  simulated("close() releases everything in any state", (simulation, connect) => {
    const connecting = connect();
    connecting.send("kept");
    connecting.close();
    equal(simulation.socket?.closings, [[1000, ""]]);
    expectReleased(simulation, connecting);

    const open = connect();
    simulation.socket?.open();
    open.close(4000, "enough");
    equal(simulation.socket?.closings, [[4000, "enough"]]);
    equal(open.status, { state: "closed", nextTryAtMs: null, code: 4000, reason: "enough" });
    expectReleased(simulation, open);
    simulation.socket?.end(1006);
    equal(open.status.code, 4000, "the socket's end changes nothing");

    const waiting = connect();
    simulation.socket?.end(1006);
    waiting.close();
    expectReleased(simulation, waiting);

    const ended = connect();
    simulation.socket?.open();
    simulation.socket?.end(4401);
    const seen = statuses(ended);
    ended.close();
    equal([seen.length, ended.status.code], [0, 4401], "a second end");
    expectReleased(simulation, ended);
  }),

  simulated("events that a socket dispatches within close() are not a loss", (simulation, connect) => {
    const client = connect();
    const socket = simulation.socket;
    const seen = statuses(client);
    if (socket) {
      socket.onClosing = () => {
        socket.fail();
        socket.end(1006);
      };
    }
    client.close();
    equal(seen.map(({ state }) => state), ["closed"]);
    expectReleased(simulation, client);
  }),

  simulated("close() with an invalid code changes nothing", (simulation, connect) => {
    const client = connect();
    simulation.socket?.open();
    throws(() => client.close(1001), "InvalidAccessError");
    equal([client.state, client.send("still"), simulation.socket?.sent.length], ["open", true, 1]);
    simulation.socket?.end(1012);
    equal(client.state, "waiting");
  }),

  simulated("the client retries at once when the network is online again", (simulation, connect) => {
    const client = connect(NEVER_AGAIN);
    for (const [index, type] of ["online", "pageshow", "visibilitychange"].entries()) {
      simulation.socket?.end(1006);
      simulation.dispatch(type);
      equal([client.state, simulation.sockets.length], ["connecting", index + 2], type);
      simulation.socket?.open();
      simulation.dispatch(type);
      equal([client.state, simulation.sockets.length], ["open", index + 2], `${type} while open`);
    }
    equal(simulation.socket?.sent, [], "without a heartbeat it sends nothing on its own");
    simulation.socket?.end(1006);
    simulation.visibilityState = "hidden";
    simulation.dispatch("visibilitychange");
    equal(client.state, "waiting", "the page is hidden");
    simulation.dispatch("online");
    equal(client.state, "connecting", "online while hidden");
    client.close();
    expectReleased(simulation, client);
  }),

  // --- Dead connections ------------------------------------------------------------------------------

  simulated("any message counts, also one that is not valid, and restarts no timer", (simulation, connect) => {
    const client = connect();
    simulation.socket?.open();
    simulation.announce("e:0", 1);
    equal(simulation.waitMs, 7_000, "twice the interval and 5 s");
    const timer = simulation.lastTimer;
    for (const message of [{ type: "a" }, {}, { type: "a", id: "e:1" }]) {
      simulation.pass(2_000);
      simulation.socket?.receive(message);
    }
    equal([simulation.lastTimer, simulation.waitMs], [timer, 1_000]);
    simulation.pass(1_000);
    equal([client.state, simulation.waitMs], ["open", 6_000]);
    simulation.pass(6_000);
    equal(client.state, "waiting");
  }),

  simulated("on a wake-up a client asks for an answer, and reconnects without one within 3 s", (simulation, connect) => {
    for (const type of ["online", "pageshow", "visibilitychange"]) {
      const client = connect(NEVER_AGAIN);
      simulation.socket?.open();
      simulation.announce("e:0");
      simulation.dispatch(type);
      simulation.dispatch(type);
      equal(simulation.socket?.sent, ['{"type":"clientPing","payload":{}}'], type);
      simulation.pass(2_999);
      equal([client.state, simulation.waitMs], ["open", 1]);
      simulation.pass(1);
      equal([client.state, client.status.code], ["waiting", 1006]);
      const dead = simulation.socket;
      client.retryNow();
      simulation.socket?.open();
      dead?.receive({ type: "serverPosition", payload: { connection: "late", heartbeatSeconds: 1 }, id: "e:9" });
      dead?.end(4401);
      equal([client.state, simulation.waitMs], ["open", null], "events of the dead connection");
      client.close();
      expectReleased(simulation, client);
    }
  }),

  simulated("HTTP URLs become WebSocket URLs, and an invalid one leaves nothing open", (simulation, _, { realtime }) => {
    for (const [given, used] of [
      ["http://a.test/x?y=1", "ws://a.test/x?y=1"],
      ["https://a.test/x", "wss://a.test/x"],
      ["wss://a.test/x", "wss://a.test/x"],
      [new URL("http://a.test:81/x"), "ws://a.test:81/x"],
    ]) {
      realtime.connect(given).close();
      equal(withoutClient(simulation.urls.pop() ?? ""), used);
    }
    throws(() => realtime.connect("http://"), "TypeError");
    const refusing = class {
      constructor() {
        throw new DOMException("no such scheme", "SyntaxError");
      }
    };
    throws(() => realtime.connect("ftp://a.test/", { WebSocketClass: refusing }), "SyntaxError");
    const restore = replace(globalThis, { WebSocket: undefined });
    throws(() => realtime.connect("ws://a.test/"), "TypeError");
    restore();
    equal([simulation.timers.size, simulation.listeners.size], [0, 0], "timers and listeners left");
  }),

  // --- Recovery ------------------------------------------------------------------------------------

  // --- Tickets and the session's expiry ----------------------------------------------------------------

  simulated("each handshake has a ticket of its own, beside the positions", async (simulation, connect) => {
    let number = 0;
    const client = connect({ ticket: async () => `ticket ${(number += 1)}` });
    equal([client.state, simulation.sockets.length], ["connecting", 0], "before the ticket");
    client.send("kept");
    await settle();
    equal(simulation.urls.map(withoutClient), ["ws://server.test/room?ticket=ticket+1"]);
    simulation.socket?.open();
    equal(simulation.socket?.sent, ['{"type":"kept","payload":{}}']);
    simulation.announce("e:4");
    simulation.socket?.end(1006);
    client.retryNow();
    await settle();
    const query = new URL(simulation.urls.at(-1) ?? "").searchParams;
    equal([query.get("ticket"), query.get("since"), query.get("connection")], ["ticket 2", "e:4", "c"]);
    client.reconnect();
    equal([client.state, number], ["connecting", 2], "it does nothing while it is not open");
    simulation.socket?.open();
    client.reconnect();
    await settle();
    equal([number, simulation.sockets.length], [3, 3]);
    client.close();
    expectReleased(simulation, client);
  }),

  simulated("a rejected ticket is a failed attempt, and is retried with the delays of one", async (simulation, connect) => {
    const { calls, call } = controlled();
    const client = connect({ ticket: call, baseDelayMs: 100 });
    client.send("kept");
    for (const waitMs of [50, 100, 200]) {
      calls.at(-1)?.reject(new TypeError("no network"));
      await settle();
      equal(client.status, { state: "waiting", nextTryAtMs: Date.now() + waitMs, code: 1006, reason: "" });
      simulation.pass(waitMs);
    }
    calls.at(-1)?.resolve("t");
    await settle();
    simulation.socket?.open();
    equal([calls.length, simulation.sockets.length, simulation.socket?.sent.length], [4, 1, 1]);
    simulation.socket?.end(1013);
    equal([client.state, client.status.code], ["waiting", 1013]);
    client.close();
    expectReleased(simulation, client);
  }),

  simulated("without a session there is no ticket, and the client closes with 4401", async (simulation, connect) => {
    const terminal = Object.assign(new Error("signed out"), { terminal: true });
    for (const ticket of [async () => null, () => Promise.reject(terminal)]) {
      const client = connect({ ticket });
      const seen = statuses(client);
      client.send("never");
      await settle();
      equal(seen, [{ state: "closed", nextTryAtMs: null, code: 4401, reason: "" }]);
      expectReleased(simulation, client);
    }
    equal(simulation.sockets.length, 0);
  }),

  simulated("a ticket counts toward the timeout of its attempt, and a late one is ignored", async (simulation, connect) => {
    const { calls, call } = controlled();
    const client = connect({ ticket: call, connectTimeoutMs: 700, baseDelayMs: 100 });
    simulation.pass(700);
    equal([client.state, client.status.code, simulation.waitMs], ["waiting", 1006, 50]);
    calls[0]?.resolve("late");
    await settle();
    equal([client.state, simulation.sockets.length], ["waiting", 0]);
    simulation.pass(50);
    simulation.pass(400);
    calls[1]?.resolve("in time");
    await settle();
    equal([simulation.sockets.length, simulation.waitMs], [1, 300], "the rest is for the handshake");
    simulation.pass(300);
    equal(client.state, "waiting");

    simulation.pass(100);
    client.close();
    calls[2]?.resolve("after close()");
    await settle();
    equal([calls.length, simulation.sockets.length], [3, 1]);
    expectReleased(simulation, client);
  }),

  simulated("a session is refreshed over the open connection", async (simulation, connect) => {
    let number = 0;
    const client = connect({ refresh: async () => `token ${(number += 1)}` });
    const received = [collect(client, "serverSessionExpiring"), collect(client, "serverSessionRefreshed")];
    const seen = statuses(client);
    simulation.socket?.open();
    for (const token of ["token 1", "token 2"]) {
      simulation.socket?.receive({ type: "serverSessionExpiring", payload: { expiresInSeconds: 30 } });
      await settle();
      equal(JSON.parse(simulation.socket?.sent.at(-1) ?? ""), { type: "clientRefreshSession", payload: { token } });
      simulation.socket?.receive({ type: "serverSessionRefreshed", payload: { expiresInSeconds: 300 } });
      equal(simulation.waitMs, null, "timers left");
    }
    equal(received.map(({ length }) => length), [2, 2], "listeners receive both messages");
    equal([simulation.sockets.length, seen.map(({ state }) => state)], [1, ["open"]]);
    client.close();
    expectReleased(simulation, client);
  }),

  simulated("a failed refresh is repeated with growing delays until the session expires", async (simulation, connect) => {
    const { calls, call } = controlled();
    const client = connect({ refresh: call, baseDelayMs: 2_000 });
    simulation.socket?.open();
    simulation.socket?.receive({ type: "serverSessionExpiring", payload: { expiresInSeconds: 30 } });
    for (const waitMs of [1_000, 2_000, 4_000, 8_000]) {
      calls.at(-1)?.reject(new TypeError("no network"));
      await settle();
      equal([simulation.waitMs, client.state], [waitMs, "open"]);
      simulation.pass(waitMs);
    }
    equal(calls.length, 5);
    calls.at(-1)?.reject(new TypeError("no network"));
    await settle();
    equal([simulation.waitMs, client.state], [null, "open"], "the next one would be too late");
    simulation.socket?.end(4401, "your session has expired");
    equal([client.state, client.status.code], ["closed", 4401]);
    expectReleased(simulation, client);
  }),

  simulated("a refresh without an answer is repeated, and its late result is not sent", async (simulation, connect) => {
    const { calls, call } = controlled();
    connect({ refresh: call, connectTimeoutMs: 700, baseDelayMs: 100 });
    simulation.socket?.open();
    simulation.socket?.receive({ type: "serverSessionExpiring", payload: { expiresInSeconds: 30 } });
    simulation.pass(700);
    equal(simulation.waitMs, 50);
    calls[0]?.resolve("late");
    await settle();
    simulation.pass(50);
    calls[1]?.resolve("in time");
    await settle();
    equal(simulation.socket?.sent, ['{"type":"clientRefreshSession","payload":{"token":"in time"}}']);
    simulation.pass(300);
    equal([calls.length, simulation.waitMs], [2, 400], "the rest is for the server's reply");
    simulation.pass(400 + 100);
    equal(calls.length, 3, "no reply");
  }),

  simulated("a server that cannot check the session is asked again; nobody else receives that error", async (simulation, connect) => {
    let number = 0;
    const client = connect({ refresh: async () => `token ${(number += 1)}`, baseDelayMs: 100 });
    const errors = collect(client, "serverError");
    simulation.socket?.open();
    const unavailable = { type: "serverError", payload: { code: "unavailable", error: "Try again." } };
    simulation.socket?.receive(unavailable);
    equal(errors.length, 1, "without a refresh it is the application's");
    simulation.socket?.receive({ type: "serverSessionExpiring", payload: { expiresInSeconds: 30 } });
    await settle();
    simulation.socket?.receive({ type: "serverError", payload: { code: "other", error: "Another." } });
    simulation.socket?.receive(unavailable);
    equal([errors.length, simulation.waitMs], [2, 50]);
    simulation.pass(50);
    await settle();
    equal(simulation.socket?.sent.length, 2);
    simulation.socket?.receive({ type: "serverSessionRefreshed", payload: { expiresInSeconds: null } });
    simulation.socket?.receive(unavailable);
    equal([errors.length, simulation.waitMs], [3, null]);
  }),

  simulated("a session that has ended is not refreshed, and neither is one without `refresh`", async (simulation, connect) => {
    const terminal = Object.assign(new Error("signed out"), { terminal: true });
    for (const refresh of [async () => null, () => Promise.reject(terminal), undefined]) {
      const client = connect({ refresh });
      simulation.socket?.open();
      simulation.socket?.receive({ type: "serverSessionExpiring", payload: { expiresInSeconds: 30 } });
      await settle();
      equal([simulation.socket?.sent, simulation.waitMs, client.state], [[], null, "open"]);
      client.close();
    }
    equal([simulation.timers.size, simulation.listeners.size], [0, 0], "timers and listeners left");
  }),

  simulated("a refresh ends with its connection", async (simulation, connect) => {
    const { calls, call } = controlled();
    const client = connect({ refresh: call, baseDelayMs: 100 });
    simulation.socket?.open();
    simulation.socket?.receive({ type: "serverSessionExpiring", payload: { expiresInSeconds: 30 } });
    simulation.socket?.end(1012);
    equal(simulation.waitMs, 50, "the only timer is that of the next attempt");
    client.retryNow();
    simulation.socket?.open();
    calls[0]?.resolve("for the earlier connection");
    await settle();
    equal([simulation.socket?.sent, simulation.waitMs, calls.length], [[], null, 1]);
    simulation.socket?.receive({ type: "serverSessionExpiring", payload: { expiresInSeconds: 30 } });
    client.close();
    calls[1]?.resolve("after close()");
    await settle();
    expectReleased(simulation, client);
  }),

  // --- Queue ---------------------------------------------------------------------------------------

  simulated("the queue is bounded and is sent in order before new messages", (simulation, connect) => {
    const client = connect({ maxQueuedMessages: 3 });
    const accepted = [1, 2, 3, 4].map((number) => client.send("a", { number }));
    equal([accepted, client.queuedMessages], [[true, true, true, false], 3]);
    client.onStatus((/** @type {any} */ { state }) => state === "open" && client.send("b"));
    simulation.socket?.open();
    equal(client.send("c"), true);
    equal(simulation.socket?.sent, [
      '{"type":"a","payload":{"number":1}}',
      '{"type":"a","payload":{"number":2}}',
      '{"type":"a","payload":{"number":3}}',
      '{"type":"b","payload":{}}',
      '{"type":"c","payload":{}}',
    ]);
    equal(client.queuedMessages, 0);
    simulation.socket?.end(1006);
    equal(client.send("d"), true);
    client.retryNow();
    simulation.socket?.open();
    equal(simulation.socket?.sent, ['{"type":"d","payload":{}}', '{"type":"b","payload":{}}']);
  }),

  simulated("nothing is sent over a closing connection: no probe, and no queue at the end", (simulation, connect) => {
    const client = connect(NEVER_AGAIN);
    simulation.socket?.open();
    simulation.announce("e:0");
    if (simulation.socket) simulation.socket.readyState = 2;
    simulation.dispatch("online");
    client.send("a");
    client.close();
    equal([simulation.socket?.sent, client.state], [[], "closed"]);
    expectReleased(simulation, client);
  }),

  // --- Listeners -----------------------------------------------------------------------------------

  simulated("a listener gets the position and the time of a message", (simulation, connect) => {
    const client = connect();
    const received = /** @type {any[]} */ ([]);
    client.on("a", (/** @type {any} */ payload, /** @type {any} */ info) => received.push([payload, info]));
    simulation.socket?.open();
    simulation.socket?.receive({ type: "a", payload: { b: 1 }, id: "e:1", at: 1_732_700_000_000 });
    simulation.socket?.receive({ type: "a" });
    equal(received, [[{ b: 1 }, { id: "e:1", at: 1_732_700_000_000 }], [{}, {}]]);
  }),

  simulated("an exception in a listener does not affect other listeners", (simulation, connect) => {
    const client = connect();
    client.on("a", () => {
      throw new Error("of a message");
    });
    client.onStatus(() => {
      throw new Error("of a status");
    });
    const [received, seen] = [collect(client, "a"), statuses(client)];
    simulation.socket?.open();
    simulation.socket?.receive({ type: "a", payload: { number: 1 } });
    simulation.socket?.end(1012);
    equal(received, [{ number: 1 }]);
    equal(seen.map(({ state }) => state), ["open", "waiting"]);
    equal(simulation.warnings.map(({ message }) => message), ["of a status", "of a message", "of a status"]);
    equal(simulation.timers.size, 1, "timers");
  }),

  simulated("no listener receives a message after one that closes", (simulation, connect) => {
    const client = connect();
    client.on("a", () => client.close());
    const received = collect(client, "a");
    simulation.socket?.open();
    simulation.socket?.receive({ type: "a" });
    simulation.socket?.receive({ type: "a" });
    equal(received, []);
    expectReleased(simulation, client);
  }),

  simulated("after a status listener that closes or retries, the others receive the new status only", (simulation, connect) => {
    for (const [from, action, to] of [
      ["connecting", "close", "closed"],
      ["open", "close", "closed"],
      ["waiting", "close", "closed"],
      ["waiting", "retryNow", "connecting"],
    ]) {
      const client = connect();
      if (from === "connecting") simulation.socket?.end(1006);
      client.onStatus((/** @type {any} */ { state }) => state === from && client[String(action)]());
      const seen = statuses(client);
      if (from === "connecting") client.retryNow();
      else simulation.socket?.open();
      if (from === "waiting") simulation.socket?.end(1006);
      equal(seen.map(({ state }) => state), from === "waiting" ? ["open", to] : [to], `${action} on ${from}`);
      client.close();
      expectReleased(simulation, client);
    }
  }),

  simulated("each call is a separate subscription and ends once", (simulation, connect) => {
    const client = connect();
    /** @type {string[]} */
    const received = [];
    const listener = () => received.push("twice");
    const ends = [client.on("a", listener), client.on("a", listener)];
    const endLast = client.on("b", () => received.push("b"));
    simulation.socket?.open();
    const receive = (/** @type {string} */ type) => {
      received.length = 0;
      simulation.socket?.receive({ type });
      return received.length;
    };
    equal(receive("a"), 2);
    equal([ends[0](), ends[0](), receive("a")], [true, false, 1]);
    equal([ends[1](), receive("a"), receive("b"), endLast(), receive("b")], [true, 0, 1, true, 0]);
    let ofTheNewStatus = 0;
    const end = client.onStatus(() => (ofTheNewStatus += 1));
    simulation.socket?.end(1006);
    equal([end(), end()], [true, false]);
    client.retryNow();
    equal(ofTheNewStatus, 1);
  }),

  simulated("a listener can end another subscription, and add one for the next message", (simulation, connect) => {
    const client = connect();
    /** @type {string[]} */
    const received = [];
    const endFirst = client.on("a", () => {
      endFirst();
      endSecond();
      client.on("a", () => received.push("new"));
    });
    const endSecond = client.on("a", () => received.push("ended"));
    simulation.socket?.open();
    simulation.socket?.receive({ type: "a" });
    equal(received, []);
    simulation.socket?.receive({ type: "a" });
    equal(received, ["new"]);
  }),

  // --- Requests ---------------------------------------------------------------------------------------

  simulated("a request fails with the server's error", async (simulation, connect, { realtime }) => {
    const client = connect();
    const errors = collect(client, "serverError");
    simulation.socket?.open();
    const failed = outcome(client.request("clientRollDice", { sides: 0 }));
    const payload = { code: "invalidPayload", error: "Expected at least 1.", field: "sides" };
    simulation.socket?.receive({ type: "serverError", payload, ref: "1" });
    const error = await failed;
    check(error instanceof realtime.RequestError, "it is a RequestError");
    equal([error.code, error.message, error.field], ["invalidPayload", "Expected at least 1.", "sides"]);
    equal(errors, [], "errors of listeners");
  }),

  simulated("a request of the server is answered, over the connection that it came from", async (simulation, connect) => {
    const client = connect();
    const heard = collect(client, "serverAskName");
    /** @type {(name: string) => void} */
    let decide = () => {};
    client.answer("serverAskName", (/** @type {any} */ { hint }) => hint + "!");
    client.answer("serverAskLater", () => new Promise((resolve) => (decide = resolve)));
    client.answer("serverAskNothing", () => {});
    client.answer("serverAskRemoved", () => 1);
    client.answer("serverAskRemoved", null);
    client.answer("serverAskBadly", () => {
      throw new TypeError("no".repeat(1_000));
    });
    simulation.socket?.open();
    const names = ["Name", "Nothing", "Removed", "Badly", "Later", "Later"];
    for (const [index, name] of names.entries()) {
      simulation.socket?.receive({ type: `serverAsk${name}`, payload: { hint: "Ada" }, ref: `server:${index}` });
    }
    await settle();
    const texts = simulation.socket?.sent ?? [];
    const replies = texts.map((text) => JSON.parse(text));
    equal(
      replies.map(({ type, ref, payload }) => [type, ref, payload.result, payload.code]),
      [
        ["clientReply", "server:2", undefined, "unsupported"],
        ["clientReply", "server:3", undefined, "failed"],
        ["clientReply", "server:0", "Ada!", undefined],
        ["clientReply", "server:1", null, undefined],
      ],
    );
    equal(replies[1].payload.error.length, 1_000, "characters of the error");
    equal(heard, [], "messages for listeners");
    simulation.socket?.end(1012);
    client.retryNow();
    simulation.socket?.open();
    decide("too late");
    await settle();
    equal(simulation.socket?.sent, [], "replies over another connection");
  }),

  simulated("a request with half a character fails at once, because its reply would have no reference", async (simulation, connect) => {
    const client = connect();
    simulation.socket?.open();
    for (const half of ["\ud83d", "a\ude00", "\\\ud83d"]) {
      for (const once of [false, true]) {
        const failed = await outcome(client.request("clientSendMessage", { text: half }, { once }));
        equal([failed.code, simulation.socket?.sent, simulation.waitMs], ["invalidPayload", [], null]);
      }
    }
    for (const text of ["\ud83d\ude00", "\\ud83d", "\\\\ud83d"]) void outcome(client.request("clientSendMessage", { text }));
    equal(simulation.socket?.sent.length, 3, "messages sent");
    equal(JSON.parse(simulation.socket?.sent[2] ?? "").payload.text, "\\\\ud83d");
    client.close();
  }),

  simulated("an error of a request is not one of the refresh", async (simulation, connect) => {
    const client = connect({ refresh: async () => "token" });
    simulation.socket?.open();
    const failed = outcome(client.request("clientWait"));
    simulation.socket?.receive({ type: "serverSessionExpiring", payload: { expiresInSeconds: 30 } });
    await settle();
    simulation.socket?.receive({ type: "serverError", payload: { code: "unavailable", error: "Later." }, ref: "1" });
    equal((await failed).code, "unavailable");
    simulation.socket?.receive({ type: "serverSessionRefreshed", payload: { expiresInSeconds: null } });
    equal(simulation.waitMs, null);
  }),

  // --- Over real connections -----------------------------------------------------------------------

  {
    name: "messages are sent and received, and the status is reported",
    run: (context) =>
      withClient(context, "echo", {}, async (client, name) => {
        const seen = statuses(client);
        equal(client.status, { state: "connecting", nextTryAtMs: null, code: null, reason: "" });
        check(client instanceof context.realtime.RealtimeClient, "it is a RealtimeClient");
        await reachState(client, "open");
        client.send("hello", { text: "„Grüße“ 🎉", list: [1, null] });
        equal(await next(client, "echo"), { type: "hello", payload: { text: "„Grüße“ 🎉", list: [1, null] } });
        client.send("bare");
        equal(await next(client, "echo"), { type: "bare", payload: {} });
        client.close(4000, "enough");
        equal(seen, [
          { state: "open", nextTryAtMs: null, code: null, reason: "" },
          { state: "closed", nextTryAtMs: null, code: 4000, reason: "enough" },
        ]);
        equal((await report(context, name, 0)).connections, 1, "connections");
      }),
  },

  {
    name: "a refused attempt is retried, and queued messages arrive in order",
    run: (context) =>
      withClient(context, "refuse,refuse,echo", QUICK, async (client, name) => {
        const seen = statuses(client);
        for (const number of [1, 2, 3]) equal(client.send("kept", { number }), true);
        await reachState(client, "open");
        client.send("new");
        const received = await gather(client, "echo", 4);
        equal(received.map(({ type, payload }) => [type, payload.number]), [["kept", 1], ["kept", 2], ["kept", 3], ["new", undefined]]);
        const states = ["waiting", "connecting", "waiting", "connecting", "open"];
        equal(seen.map(({ state }) => state), states);
        for (const { state, code, nextTryAtMs } of seen) {
          equal([code, nextTryAtMs !== null], state === "waiting" ? [1006, true] : [null, false], state);
        }
        equal((await report(context, name, 1)).connections, 3, "connections");
      }),
  },

  {
    name: "each terminal code from a server closes the client",
    async run(context) {
      for (const code of TERMINAL) {
        await withClient(context, `close:${code},echo`, QUICK, async (client, name) => {
          equal(await reachState(client, "closed"), { state: "closed", nextTryAtMs: null, code, reason: "requested" });
          equal(client.send("late"), false, "a message was accepted");
          equal((await report(context, name, 0)).connections, 1, "connections");
        });
      }
    },
  },

  {
    name: "each other code from a server leads to a retry",
    async run(context) {
      for (const code of RETRYABLE) {
        await withClient(context, `close:${code},echo`, QUICK, async (client, name) => {
          const waiting = await reachState(client, "waiting");
          equal([waiting.code, waiting.reason], [code, "requested"]);
          await reachState(client, "open");
          equal((await report(context, name, 1)).connections, 2, "connections");
        });
      }
    },
  },

  {
    name: "an aborted connection is replaced",
    run: (context) =>
      withClient(context, "abort,echo", QUICK, async (client, name) => {
        const seen = statuses(client);
        client.send("kept");
        while (seen.filter(({ state }) => state === "open").length < 2) await nextStatus(client);
        client.send("abort");
        equal((await reachState(client, "waiting")).code, 1006);
        await reachState(client, "open");
        client.send("hello");
        equal((await next(client, "echo")).type, "hello");
        equal((await report(context, name, 1)).connections, 3, "connections");
      }),
  },

  {
    name: "an aborted client sends its positions in the URL and receives nothing twice",
    run: (context) =>
      withClient(context, "echo,refuse,echo", QUICK, async (client, name) => {
        /** @type {unknown[]} */
        const received = [];
        client.on("entry", (/** @type {any} */ { text }) => received.push(text));
        client.onRecovery((/** @type {any} */ { recovered }) => received.push(recovered));
        const sendRaw = (/** @type {string} */ type, /** @type {object} */ payload, /** @type {string} */ id) =>
          client.send("raw", { text: JSON.stringify({ type, payload, id }) });
        sendRaw("serverPosition", { connection: "first" }, "a:1");
        sendRaw("entry", { text: "one" }, "a:2");
        sendRaw("entry", { text: "other room" }, "b:7");
        sendRaw("end", {}, "");
        await next(client, "end");
        client.send("abort");
        await reachState(client, "waiting");
        await reachState(client, "open");
        sendRaw("entry", { text: "one" }, "a:2");
        sendRaw("entry", { text: "two" }, "a:3");
        sendRaw("serverPosition", { connection: "second", recovered: true }, "a:3");
        sendRaw("entry", { text: "two" }, "a:3");
        sendRaw("entry", { text: "three" }, "a:4");
        sendRaw("serverPosition", { connection: "second", recovered: false }, "c:0");
        sendRaw("end", {}, "");
        await next(client, "end");
        equal(received, ["one", "other room", "two", true, "three", false]);
        const [first, ...later] = (await report(context, name, 1)).queries;
        equal(first, "steps=echo%2Crefuse%2Cecho", "the first attempt sends no position");
        equal(later.length, 2, "connections after the first");
        for (const query of later) {
          const pairs = [...new URLSearchParams(query)].map((pair) => pair.join("="));
          equal(pairs, ["steps=echo,refuse,echo", "since=a:2", "since=b:7", "connection=first"]);
        }
      }),
  },

  {
    name: "a connection that goes silent is replaced, and nothing is lost",
    run: (context) =>
      withClient(context, "echo", { ...QUICK, heartbeatTimeoutMs: 300 }, async (client, name) => {
        const sendRaw = (/** @type {object} */ message) => client.send("raw", { text: JSON.stringify(message) });
        sendRaw({ type: "serverPosition", payload: { connection: "first", heartbeatSeconds: 0.1 }, id: "a:1" });
        sendRaw({ type: "entry", payload: {}, id: "a:2" });
        await next(client, "entry");
        equal((await reachState(client, "waiting")).code, 1006);
        await reachState(client, "open");
        const { queries } = await report(context, name, 1);
        equal([queries.length, queries[1]], [2, "steps=echo&since=a%3A2&connection=first"]);
      }),
  },

  {
    name: "a refresh keeps the connection and its messages, and a new connection has a new ticket",
    async run(context) {
      let number = 0;
      const ticket = async () => `ticket${(number += 1)}`;
      await withClient(context, "echo", { ...QUICK, ticket, refresh: ticket }, async (client, name) => {
        const sendRaw = (/** @type {object} */ message) => client.send("raw", { text: JSON.stringify(message) });
        const echoes = gather(client, "echo", 3);
        client.send("before");
        sendRaw({ type: "serverSessionExpiring", payload: { expiresInSeconds: 60 } });
        await next(client, "serverSessionExpiring");
        client.send("after");
        const types = (await echoes).map(({ type, payload }) => payload.token ?? type);
        equal(types.sort(), ["after", "before", "ticket2"]);
        client.send("abort");
        await reachState(client, "waiting");
        await reachState(client, "open");
        const { queries } = await report(context, name, 1);
        equal(queries, ["steps=echo&ticket=ticket1", "steps=echo&ticket=ticket3"]);
      });
    },
  },

  {
    name: "a protocol error of the server leads to a retry",
    run: (context) =>
      withClient(context, "garbage,echo", QUICK, async (client, name) => {
        equal((await reachState(client, "waiting")).code, 1006);
        await reachState(client, "open");
        equal((await report(context, name, 1)).connections, 2, "connections");
      }),
  },

  {
    name: "an attempt without an answer times out and closes its socket",
    run: (context) =>
      withClient(context, "silent,echo", { ...QUICK, connectTimeoutMs: 300 }, async (client, name) => {
        equal((await reachState(client, "waiting")).code, 1006);
        await reachState(client, "open");
        equal((await report(context, name, 1)).connections, 2, "connections");
      }),
  },

  {
    name: "close() while connecting, open or waiting leaves no connection",
    async run(context) {
      for (const [steps, state] of [["silent", "connecting"], ["echo", "open"], ["refuse", "waiting"]]) {
        await withClient(context, String(steps), NEVER_AGAIN, async (client, name) => {
          await reachState(client, String(state));
          const seen = statuses(client);
          client.close();
          equal(client.status, { state: "closed", nextTryAtMs: null, code: 1000, reason: "" });
          await report(context, name, 0);
          equal(seen.map((status) => status.state), ["closed"], `from ${state}`);
        });
      }
    },
  },

  {
    name: "the client waits as long as a server that stops asks for",
    run: (context) =>
      withClient(context, "echo", NEVER_AGAIN, async (client, name) => {
        client.send("close", { code: 1012, reason: "retry=0.4" });
        const { nextTryAtMs } = await reachState(client, "waiting");
        const waitMs = nextTryAtMs - Date.now();
        check(waitMs > 0 && waitMs <= 400, `it waits ${waitMs} ms`);
        await reachState(client, "open");
        check(Date.now() >= nextTryAtMs - 5, "it reconnects too early");
        equal((await report(context, name, 1)).connections, 2, "connections");
      }),
  },

  {
    name: "retryNow() makes a new connection at once",
    run: (context) =>
      withClient(context, "close:1012,echo", NEVER_AGAIN, async (client) => {
        await reachState(client, "waiting");
        client.retryNow();
        equal(client.state, "connecting");
        await reachState(client, "open");
      }),
  },

  {
    name: "invalid messages are reported and ignored",
    run: (context) =>
      withClient(context, "echo", {}, async (client) => {
        const bad = ["", "{", "null", "1", "[]", '"text"', "{}", '{"type": 1}', '{"type": null, "payload": {}}'];
        const received = await warnings(async () => {
          for (const text of bad) client.send("raw", { text });
          client.send("binary");
          client.send("raw", { text: '{"type": "no listener", "payload": {}}' });
          client.send("raw", { text: '{"type": "constructor"}' });
          client.send("hello");
          equal((await next(client, "echo")).type, "hello");
        });
        equal(received.length, bad.length + 1, "console messages");
        equal(client.state, "open");
      }),
  },

  {
    name: "a missing payload is an empty one",
    run: (context) =>
      withClient(context, "echo", {}, async (client) => {
        for (const text of ['{"type": "a"}', '{"type": "a", "payload": null}']) {
          client.send("raw", { text });
          equal(await next(client, "a"), {}, text);
        }
      }),
  },

  {
    name: "it answers the server's pings and sends nothing on its own",
    run: (context) =>
      withClient(context, "echo", {}, async (client, name) => {
        client.send("ping");
        await next(client, "pong");
        equal((await report(context, name, 1)).received, [{ type: "ping", payload: {} }]);
      }),
  },

  {
    name: "send() refuses while the server does not read, and accepted messages are not lost",
    run: (context) =>
      withClient(context, "paused", { maxBufferedBytes: 100_000 }, async (client, name) => {
        await reachState(client, "open");
        const text = "x".repeat(60_000);
        let accepted = 0;
        while (client.send("many", { number: accepted, text })) {
          accepted += 1;
          check(accepted < 2_000, "it accepts messages without a bound");
        }
        const echoes = gather(client, "echo", accepted);
        await withClient(context, "echo", {}, async (other) => {
          other.send("release", { name });
          other.send("hello");
          await next(other, "echo");
        });
        equal((await echoes).map(({ payload }) => payload.number), Array.from({ length: accepted }, (_, number) => number));
        equal(client.send("again"), true, "it accepts messages again");
        equal((await next(client, "echo")).type, "again");
      }),
  },
];

/** @param {any} client @returns {Promise<any>} */
function nextStatus(client) {
  return bounded("another status", (resolve) => {
    const stop = client.onStatus((/** @type {any} */ status) => {
      stop();
      resolve(status);
    });
  });
}

// --- The vectors that the Python client shares -------------------------------------------------------

const STEPS = /** @type {Record<string, (run: VectorRun, at: any, ...given: any[]) => any>} */ ({
  open: ({ simulation }) => simulation.socket?.open(),
  end: ({ simulation }, _, code, reason) => simulation.socket?.end(code, reason),
  receive: ({ simulation }, _, message) => simulation.socket?.receive(message),
  pass: ({ simulation }, _, ms) => simulation.pass(ms),
  sleep({ simulation }, _, ms) {
    const [[id, timer] = [0, undefined]] = [...simulation.timers];
    simulation.timers.delete(id);
    simulation.nowMs += ms;
    timer?.call();
  },
  setClock: ({ simulation }, _, ms) => (simulation.clockMs += ms),
  wake: ({ simulation }) => simulation.dispatch("online"),
  buffer: ({ simulation }, _, bytes) => simulation.socket && (simulation.socket.bufferedAmount = bytes),
  closing: ({ simulation }) => simulation.socket && (simulation.socket.readyState = 2),
  send: (_, at, type, payload, accepted) => equal(at.send(type, payload), accepted, type),
  request(run, at, name, type, payload, options) {
    at.request(type, payload, options).then(
      (/** @type {any} */ reply) => (run.replies[name] = [reply.type, reply.payload]),
      (/** @type {any} */ error) => (run.errors[name] = error.code),
    );
  },
  retryNow: (_, at) => at.retryNow(),
  reconnect: (_, at) => at.reconnect(),
  close: (_, at, ...given) => at.close(...given),
  join: (run, at, name) => (run.rooms[name] = run.watch(at.join(name))),
  leave: (run, _, name) => run.rooms[name].leave(),
  room: (run, _, name, [action, ...given]) => STEPS[action](run, run.rooms[name], ...given),
  expect(run, at, expected) {
    for (const [name, value] of Object.entries(expected)) equal(run.fact(at, name), value, name);
  },
});

/** One vector, in a simulation. */
class VectorRun {
  replies = /** @type {Record<string, any>} */ ({});
  errors = /** @type {Record<string, string>} */ ({});
  rooms = /** @type {Record<string, any>} */ ({});
  /** What each client or room has reported since the last look. @type {Map<any, { received: any[], recoveries: any[] }>} */
  reports = new Map();

  /** @param {Simulation} simulation @param {any} client @param {string[]} types */
  constructor(simulation, client, types) {
    this.simulation = simulation;
    this.types = types;
    this.client = this.watch(client);
  }

  /** @param {any} at */
  watch(at) {
    if (this.reports.has(at)) return at;
    const report = { received: /** @type {any[]} */ ([]), recoveries: /** @type {any[]} */ ([]) };
    this.reports.set(at, report);
    for (const type of this.types) at.on(type, (/** @type {any} */ payload) => report.received.push([type, payload]));
    at.onRecovery((/** @type {any} */ { recovered }) => report.recoveries.push(recovered));
    return at;
  }

  /** Return what is the case. @param {any} at @param {string} name @returns {any} */
  fact(at, name) {
    const { simulation, replies, errors } = this;
    const report = /** @type {any} */ (this.reports.get(at));
    const query = (/** @type {string | undefined} */ url) => new URL(url ?? "").searchParams;
    const sent = () => (simulation.socket?.sent ?? []).map((text) => JSON.parse(text));
    switch (name) {
      case "state": return at.state;
      case "code": return at.status.code;
      case "reason": return at.status.reason;
      case "waitMs": return simulation.waitMs;
      case "sockets": return simulation.sockets.length;
      case "closings": return simulation.socket?.closings.length;
      case "queued": return at.queuedMessages;
      case "sent": return sent();
      case "sentTypes": return sent().map(({ type }) => type);
      case "sentRefs": return sent().map(({ ref }) => ref ?? null);
      case "since":
      case "connection": return query(simulation.urls.at(-1)).getAll(name);
      case "clientIds": return new Set(simulation.urls.map((url) => query(url).get("client"))).size;
      case "received":
      case "recoveries": return report[name].splice(0);
      case "replies": return (this.replies = {}, Object.fromEntries(Object.entries(replies).sort()));
      case "errors": return (this.errors = {}, Object.fromEntries(Object.entries(errors).sort()));
      default: throw new Error(`unknown fact ${name}`);
    }
  }
}

/**
 * Make a scenario of each vector of `realtime_vectors.json`.
 *
 * @param {any} shared
 * @returns {Scenario[]}
 */
export function vectorScenarios({ terminalRanges, delays, vectors }) {
  return [
    {
      name: "the terminal codes are exactly those of the contract",
      run({ realtime }) {
        for (let code = 0; code <= 5_000; code++) {
          const isTerminal = terminalRanges.some(([first = 0, last = 0]) => code >= first && code <= last);
          equal(realtime.isTerminalCode(code), isTerminal, `code ${code}`);
        }
      },
    },
    simulated("a delay is a random fraction of a bound that doubles up to the maximum", (simulation, _, { realtime }) => {
      for (const random of [0, 0.25, 0.999]) {
        simulation.random = random;
        for (const [failures, bound] of Object.entries(delays.bounds)) {
          equal(realtime.retryDelayMs(Number(failures), delays.baseDelayMs, delays.maxDelayMs), random * Number(bound));
        }
      }
      equal(realtime.retryDelayMs(5_000, 0, 30_000), 0, "no base");
    }),
    ...vectors.map((/** @type {any} */ { name, options, listen = [], steps }) =>
      simulated(name, async (simulation, connect) => {
        const run = new VectorRun(simulation, connect(options), listen);
        for (const [index, [action, ...given]] of steps.entries()) {
          try {
            STEPS[action](run, run.client, ...given);
          } catch (error) {
            throw new Error(`step ${index + 1}, ${JSON.stringify(steps[index])}: ${error instanceof Error ? error.message : error}`);
          }
          await settle();
        }
        run.client.close();
        await settle();
      }),
    ),
  ];
}

// --- With the service ------------------------------------------------------------------------------

/** @type {Scenario[]} */
export const serviceScenarios = [
  {
    name: "a client without a sign-in is refused permanently; a signed-in client can send and receive",
    async run({ realtime, service }) {
      check(service, "there is no service");
      if (!service) return;
      const unauthenticated = realtime.connect(service.url, QUICK);
      const ended = await reachState(unauthenticated, "closed");
      equal([ended.code, ended.nextTryAtMs], [4401, null]);

      const client = realtime.connect(service.url, await service.signIn("Alice"));
      try {
        const welcome = next(client, "serverSystemMessage");
        const { users, you, count } = await next(client, "serverRoomState");
        equal([you.user, typeof you.userId, users, count], ["Alice", "string", [you], 1]);
        check((await welcome).text.startsWith("Welcome Alice"), "no welcome");
        client.send("clientSendMessage", { text: "Hello" });
        const { user, userId, text } = await next(client, "serverNewMessage");
        equal([user, userId, text], ["Alice", you.userId, "Hello"]);
        client.send("clientSendMessage", { text: "" });
        const { code, field } = await next(client, "serverError");
        equal([code, field], ["invalidPayload", "text"]);
        equal(client.state, "open");
      } finally {
        client.close();
      }
    },
  },
  {
    name: "one connection is in several rooms of the service, and is in them again after a reconnection",
    async run({ realtime, service }) {
      check(service, "there is no service");
      if (!service) return;
      const url = new URL("/ws", new URL(service.url, globalThis.location?.href));
      const client = realtime.connect(url, await service.signIn("Carol"));
      try {
        const rooms = [crypto.randomUUID(), crypto.randomUUID()].map((room) => client.join(room));
        const texts = rooms.map((room) => collect(room, "serverNewMessage"));
        await Promise.all(rooms.map((room) => reachState(room, "open")));
        await rooms[0].request("clientSendMessage", { text: "one" }, { once: true });
        const recovered = bounded("recovery", (resolve) => rooms[0].onRecovery(resolve));
        client.reconnect();
        const [reply] = await Promise.all(rooms.map((room, index) => room.request("clientSendMessage", { text: `two ${index}` }, { once: true })));
        equal(reply.type, "serverAck");
        equal(await recovered, { recovered: true });
        const found = texts.map((payloads) => payloads.map(({ text }) => text));
        equal(found, [["one", "two 0"], ["two 1"]]);
        const refused = client.join("x".repeat(300));
        equal((await reachState(refused, "closed")).code, 4400);
        equal(client.state, "open");
      } finally {
        client.close();
      }
    },
  },
];
