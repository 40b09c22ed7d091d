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
      replace(Date, { now: () => simulation.nowMs + 1_700_000_000_000 }),
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
  {
    name: "the terminal codes are exactly those of the contract",
    run({ realtime }) {
      const ranges = [[1002, 1003], [1007, 1010], [3400, 3407], [3409, 3424], [3426, 3428], [3430, 3499], [4400, 4428], [4430, 4499]];
      for (let code = 0; code <= 5_000; code++) {
        const isTerminal = ranges.some(([first = 0, last = 0]) => code >= first && code <= last);
        equal(realtime.isTerminalCode(code), isTerminal, `code ${code}`);
      }
    },
  },

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

  simulated("a delay is a random fraction of a bound that doubles up to the maximum", (simulation, _, { realtime }) => {
    for (const random of [0, 0.25, 0.999]) {
      simulation.random = random;
      const delays = [0, 1, 2, 3, 4, 5, 6, 50].map((failures) => realtime.retryDelayMs(failures, 500, 30_000));
      equal(delays, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000].map((bound) => random * bound));
    }
    equal(realtime.retryDelayMs(5_000, 0, 30_000), 0, "no base");
    equal(realtime.retryDelayMs(5_000, 1, 30_000), 0.999 * 30_000, "many failures");
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

  simulated("each failure doubles the delay, and the status has the time of the next attempt", (simulation, connect) => {
    const client = connect({ baseDelayMs: 100, maxDelayMs: 1_000 });
    for (const waitMs of [50, 100, 200, 400, 500, 500]) {
      simulation.socket?.end(1006);
      equal(simulation.waitMs, waitMs);
      equal(client.status, { state: "waiting", nextTryAtMs: Date.now() + waitMs, code: 1006, reason: "" });
      const attempts = simulation.sockets.length;
      simulation.pass(waitMs - 1);
      equal([simulation.sockets.length, client.state], [attempts, "waiting"], "too early");
      simulation.pass(1);
      equal([simulation.sockets.length, client.state], [attempts + 1, "connecting"], "the next attempt");
      equal(client.status, { state: "connecting", nextTryAtMs: null, code: null, reason: "" });
    }
  }),

  simulated("only a stable connection resets the delay", (simulation, connect) => {
    connect({ baseDelayMs: 100, maxDelayMs: 10_000, stableAfterMs: 5_000 });
    for (const [livedMs = 0, waitMs = 0] of [[0, 50], [0, 100], [4_999, 200], [5_000, 50], [0, 100], [60_000, 50]]) {
      simulation.socket?.open();
      simulation.pass(livedMs);
      simulation.socket?.end(1012);
      equal(simulation.waitMs, waitMs, `after ${livedMs} ms`);
      simulation.pass(waitMs);
    }
  }),

  simulated("a server that stops announces the delay, and a failed attempt after it has the client's own", (simulation, connect) => {
    const client = connect({ baseDelayMs: 100, maxDelayMs: 1_000 });
    for (const [reason, waitMs] of /** @type {[string, number][]} */ ([["retry=1.7", 1_700], ["retry=0", 0], ["retry=45.125", 45_125]])) {
      simulation.socket?.open();
      simulation.pass(5_000);
      simulation.socket?.end(1012, reason);
      equal(client.status, { state: "waiting", nextTryAtMs: Date.now() + waitMs, code: 1012, reason });
      simulation.pass(Math.max(waitMs - 1, 0));
      equal(client.state, waitMs ? "waiting" : "connecting", "too early");
      simulation.pass(1);
      equal(client.state, "connecting", "the next attempt");
      simulation.socket?.end(1006);
      equal(simulation.waitMs, 100, "the second failure in a row");
      simulation.pass(100);
    }
  }),

  simulated("another code or reason announces no delay", (simulation, connect) => {
    connect({ baseDelayMs: 100, maxDelayMs: 100 });
    const reasons = ["", "retry", "retry=", "retry=x", "retry=-1", "retry=1e9", "retry=1.", "retry=99999", "retry=1 ", "wait=2"];
    const ends = /** @type {[number, string][]} */ ([...reasons.map((reason) => [1012, reason]), [1011, "retry=2"], [4008, "retry=2"]]);
    for (const [code, reason] of ends) {
      simulation.socket?.open();
      simulation.socket?.end(code, reason);
      equal(simulation.waitMs, 50, `${code} ${reason}`);
      simulation.pass(50);
    }
  }),

  simulated("the time to connect does not count as a stable connection", (simulation, connect) => {
    connect({ baseDelayMs: 100, stableAfterMs: 1_000, connectTimeoutMs: 9_000 });
    for (const waitMs of [50, 100, 200]) {
      simulation.pass(8_000);
      simulation.socket?.end(1006);
      equal(simulation.waitMs, waitMs);
      simulation.pass(waitMs);
    }
  }),

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

  simulated("retryNow() retries at once while waiting, and has no effect otherwise", (simulation, connect) => {
    const client = connect(NEVER_AGAIN);
    client.retryNow();
    simulation.socket?.open();
    client.retryNow();
    equal(simulation.sockets.length, 1);
    simulation.socket?.end(1006);
    const { retryNow } = client;
    retryNow();
    retryNow();
    equal([client.state, simulation.sockets.length, simulation.waitMs], ["connecting", 2, 10_000]);
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

  simulated("with a heartbeat of 20 s, a client reconnects after 45 s without a message", (simulation, connect) => {
    const client = connect({ baseDelayMs: 100 });
    simulation.socket?.open();
    equal(simulation.waitMs, null, "without an announcement there is no timeout");
    simulation.pass(3_600_000);
    simulation.announce("e:0");
    for (const silentMs of [20_000, 44_999, 1, 44_999]) {
      simulation.pass(silentMs);
      simulation.socket?.receive({ type: "serverPosition", payload: { heartbeatSeconds: 20 }, id: "e:0" });
    }
    simulation.pass(44_999);
    equal([client.state, simulation.socket?.sent], ["open", []]);
    simulation.pass(1);
    equal(client.status, { state: "waiting", nextTryAtMs: Date.now() + 50, code: 1006, reason: "" });
    equal(simulation.socket?.closings.length, 1, "closings");
    simulation.pass(50);
    equal([client.state, simulation.sockets.length], ["connecting", 2]);
    simulation.socket?.open();
    equal(simulation.waitMs, null, "the new connection has announced nothing");
    client.close();
    expectReleased(simulation, client);
  }),

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

  simulated("heartbeatTimeoutMs replaces the timeout, but not the announcement", (simulation, connect) => {
    const client = connect({ heartbeatTimeoutMs: 300 });
    simulation.socket?.open();
    for (const heartbeatSeconds of [undefined, null, "20", 0, -1, true]) {
      simulation.socket?.receive({ type: "serverPosition", payload: { connection: "c", heartbeatSeconds }, id: "e:0" });
      equal(simulation.waitMs, null, `announced ${heartbeatSeconds}`);
    }
    simulation.announce("e:0");
    equal(simulation.waitMs, 300);
    simulation.pass(300);
    equal(client.state, "waiting");
  }),

  simulated("a heartbeat of years does not overflow the timer", (simulation, connect) => {
    const client = connect();
    simulation.socket?.open();
    simulation.announce("e:0", 1e9);
    equal(simulation.waitMs, 2 ** 31 - 1);
    simulation.pass(2 ** 31 - 1);
    equal([client.state, simulation.waitMs], ["open", 2 ** 31 - 1]);
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

  simulated("any message is an answer, after which the heartbeat is expected again", (simulation, connect) => {
    const client = connect({ probeTimeoutMs: 500 });
    const errors = collect(client, "serverError");
    simulation.socket?.open();
    simulation.announce("e:0");
    for (const type of ["serverPong", "serverPosition", "a"]) {
      simulation.pass(1_000);
      simulation.dispatch("online");
      equal(simulation.waitMs, 500);
      simulation.pass(499);
      simulation.socket?.receive({ type, payload: {} });
      equal([client.state, simulation.waitMs], ["open", 45_000], type);
    }
    equal([simulation.socket?.sent.length, errors.length], [3, 0]);
    simulation.visibilityState = "hidden";
    simulation.dispatch("visibilitychange");
    equal(simulation.socket?.sent.length, 3, "the page is hidden");
    simulation.pass(45_000);
    equal(client.state, "waiting");
  }),

  simulated("messages wait for the answer, so that a dead connection does not swallow them", (simulation, connect) => {
    const client = connect({ maxQueuedMessages: 2 });
    simulation.socket?.open();
    simulation.announce("e:0");
    simulation.dispatch("online");
    equal([client.send("a"), client.send("b"), client.send("c"), client.queuedMessages], [true, true, false, 2]);
    simulation.socket?.receive({ type: "serverPong", payload: {} });
    client.send("d");
    const types = () => simulation.socket?.sent.map((text) => JSON.parse(text).type);
    equal(types(), ["clientPing", "a", "b", "d"]);

    simulation.dispatch("online");
    client.send("e");
    simulation.pass(3_000);
    client.retryNow();
    simulation.socket?.open();
    equal(types(), ["e"], "the next connection");

    simulation.announce("e:0");
    simulation.dispatch("online");
    client.send("f");
    client.reconnect();
    equal(simulation.waitMs, 10_000, "the only timer is that of the attempt");
    simulation.socket?.open();
    equal(types(), ["f"], "after reconnect()");

    simulation.announce("e:0");
    simulation.dispatch("online");
    client.send("g");
    client.close();
    equal(types(), ["f", "clientPing", "g"], "before the close");
    expectReleased(simulation, client);
  }),

  simulated("after a sleep, messages that have arrived meanwhile are received first", (simulation, connect) => {
    const client = connect(NEVER_AGAIN);
    simulation.socket?.open();
    simulation.announce("e:0");
    const sleep = (/** @type {number} */ ms) => {
      const [[id, timer] = [0, undefined]] = [...simulation.timers];
      simulation.timers.delete(id);
      simulation.nowMs += ms;
      timer?.call();
    };
    sleep(60_000);
    equal([client.state, simulation.socket?.sent.length, simulation.waitMs], ["open", 1, 3_000], "it asks first");
    simulation.socket?.receive({ type: "serverPong", payload: {} });
    equal([client.state, simulation.waitMs], ["open", 45_000]);
    sleep(60_000);
    sleep(60_000);
    equal([client.state, simulation.socket?.sent.length, simulation.waitMs], ["open", 3, 3_000], "once more");
    sleep(60_000);
    equal(client.state, "waiting", "not forever: the timers of a hidden page are always late");
  }),

  simulated("a clock that is set back does not hide a silence, and one that is set forward ends nothing", (simulation, connect) => {
    let offsetMs = 1_700_000_000_000;
    const restore = replace(Date, { now: () => simulation.nowMs + offsetMs });
    const client = connect(NEVER_AGAIN);
    simulation.socket?.open();
    simulation.announce("e:0");
    offsetMs += 3_600_000;
    simulation.pass(45_000);
    equal([client.state, simulation.socket?.sent.length], ["open", 1], "forward: it asks");
    simulation.socket?.receive({ type: "serverPong", payload: {} });
    offsetMs -= 7_200_000;
    simulation.pass(45_000);
    equal(client.state, "waiting", "back");
    restore();
  }),

  simulated("a repeated position after the last message is a gap; a lower one is none", (simulation, connect) => {
    const client = connect(NEVER_AGAIN);
    /** @type {unknown[]} */
    const received = [];
    client.on("serverPosition", (/** @type {any} */ payload) => received.push(payload.connection ?? "repeated"));
    simulation.socket?.open();
    const repeat = (/** @type {string} */ id) =>
      simulation.socket?.receive({ type: "serverPosition", payload: { heartbeatSeconds: 20 }, id });
    simulation.announce("e:4");
    simulation.socket?.receive({ type: "entry", id: "e:6" });
    for (const id of ["e:6", "e:5", "other:7"]) repeat(id);
    equal([client.state, received], ["open", ["c", "repeated", "repeated", "repeated"]]);
    simulation.socket?.receive({ price: 3, id: "e:7" });
    repeat("e:7");
    equal([client.state, received.length], ["open", 5], "an object without a type has a position too");
    repeat("e:8");
    equal([client.state, client.status.code, received.length], ["waiting", 1006, 5]);
    client.retryNow();
    const query = new URL(simulation.urls.at(-1) ?? "").searchParams;
    equal([query.getAll("since"), query.get("connection")], [["other:7", "e:7"], "c"]);
    simulation.socket?.open();
    simulation.socket?.receive({ type: "entry", id: "e:8" });
    simulation.announce("e:8");
    repeat("e:8");
    equal(client.state, "open");
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

  simulated("a reconnecting client sends its positions and receives nothing twice", (simulation, connect) => {
    const client = connect();
    equal(new URL(withoutClient(simulation.urls.at(-1) ?? "")).search, "", "the first attempt sends no position");
    simulation.socket?.open();
    /** @type {unknown[]} */
    const received = [];
    client.on("entry", (/** @type {any} */ { number }) => received.push(number));
    client.on("serverPosition", () => received.push("position"));
    client.onRecovery((/** @type {any} */ recovery) => received.push(recovery));
    const receive = (/** @type {string} */ type, /** @type {any} */ payload, /** @type {any} */ id) =>
      simulation.socket?.receive({ type, payload, id });
    receive("serverPosition", { connection: "c1" }, "e:4");
    receive("entry", { number: 5 }, "e:5");
    receive("entry", { number: 5 }, "e:5");
    receive("entry", { number: 3 }, "e:3");
    receive("entry", { number: "other" }, "f:1");
    for (const id of [undefined, 7, "", "e", "e:", "e:x", ":1", null]) receive("entry", { number: "no place" }, id);
    equal(received, ["position", 5, "other", ...Array(8).fill("no place")]);
    simulation.socket?.end(1006);
    client.retryNow();
    const back = new URL(simulation.urls.at(-1) ?? "").searchParams;
    equal([back.getAll("since"), back.getAll("connection")], [["e:5", "f:1"], ["c1"]]);
    simulation.socket?.open();
    received.length = 0;
    receive("entry", { number: 5 }, "e:5");
    receive("entry", { number: 7 }, "e:7");
    receive("serverPosition", { connection: "c2", recovered: true }, "e:8");
    receive("entry", { number: 9 }, "e:9");
    equal(received, [7, "position", { recovered: true }, 9]);
    simulation.socket?.end(1006);
    client.retryNow();
    const again = new URL(simulation.urls.at(-1) ?? "").searchParams;
    equal([again.getAll("since"), again.getAll("connection")], [["f:1", "e:9"], ["c1", "c2"]]);
    simulation.socket?.open();
    for (const connection of ["c3", "c4", "c5", "c5"]) receive("serverPosition", { connection }, "e:9");
    client.reconnect();
    const last = new URL(simulation.urls.at(-1) ?? "").searchParams;
    equal(last.getAll("connection"), ["c2", "c3", "c4", "c5"], "the ids of the last four connections");
  }),

  simulated("after a loss, the client continues from the server's position", (simulation, connect) => {
    const client = connect();
    simulation.socket?.open();
    /** @type {unknown[]} */
    const received = [];
    client.on("entry", (/** @type {any} */ { number }) => received.push(number));
    const stop = client.onRecovery((/** @type {any} */ { recovered }) => received.push(recovered));
    const receive = (/** @type {string} */ type, /** @type {any} */ payload, /** @type {string} */ id) =>
      simulation.socket?.receive({ type, payload, id });
    receive("entry", { number: 20 }, "e:20");
    receive("serverPosition", { connection: "c1", recovered: false }, "e:10");
    receive("entry", { number: 11 }, "e:11");
    receive("serverPosition", { connection: "c1", recovered: false }, "new:0");
    receive("entry", { number: 1 }, "new:1");
    equal(received, [20, false, 11, false, 1]);
    equal([stop(), stop()], [true, false]);
    receive("serverPosition", { connection: "c1", recovered: false }, "new:1");
    equal(received.length, 5);
    for (let number = 0; number < 20; number += 1) receive("entry", { number }, `epoch${number}:1`);
    receive("entry", { number: "kept" }, "epoch4:2");
    client.reconnect();
    equal(client.state, "connecting");
    const since = new URL(simulation.urls.at(-1) ?? "").searchParams.getAll("since");
    equal([since.length, since[0], since.at(-1)], [16, "epoch5:1", "epoch4:2"]);
    client.reconnect();
    equal(client.state, "connecting", "it does nothing while it is not open");
  }),

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

  simulated("the socket's buffer is bounded", (simulation, connect) => {
    const client = connect({ maxBufferedBytes: 1_000 });
    simulation.socket?.open();
    for (const [bytes = 0, accepted] of [[1_000, true], [1_001, false], [0, true]]) {
      if (simulation.socket) simulation.socket.bufferedAmount = Number(bytes);
      equal(client.send("a"), accepted, `${bytes} bytes`);
    }
    equal(simulation.socket?.sent.length, 2);
  }),

  simulated("a message for a closing connection is queued for the next one", (simulation, connect) => {
    const client = connect({ maxQueuedMessages: 1 });
    simulation.socket?.open();
    if (simulation.socket) simulation.socket.readyState = 2;
    equal([client.state, client.send("a"), client.send("b"), client.queuedMessages], ["open", true, false, 1]);
    simulation.socket?.end(1012);
    client.retryNow();
    simulation.socket?.open();
    equal(simulation.socket?.sent, ['{"type":"a","payload":{}}']);
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

  simulated("a request is settled by the message with its reference, which no listener receives", async (simulation, connect) => {
    const client = connect();
    const rolled = collect(client, "serverDiceRolled");
    simulation.socket?.open();
    const [first, second] = [client.request("clientRollDice", { sides: 6 }), client.request("clientWait")];
    equal(
      simulation.socket?.sent.map((text) => JSON.parse(text)),
      [
        { type: "clientRollDice", payload: { sides: 6 }, ref: "1" },
        { type: "clientWait", payload: {}, ref: "2" },
      ],
    );
    simulation.socket?.receive({ type: "serverAck", payload: {}, ref: "2" });
    simulation.socket?.receive({ type: "serverDiceRolled", payload: { value: 4 }, ref: "1" });
    simulation.socket?.receive({ type: "serverDiceRolled", payload: { value: 5 }, ref: "1" });
    simulation.socket?.receive({ type: "serverDiceRolled", payload: { value: 6 } });
    equal(await second, { type: "serverAck", payload: {} });
    equal(await first, { type: "serverDiceRolled", payload: { value: 4 } });
    equal([rolled, simulation.waitMs], [[{ value: 6 }], null]);
  }),

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

  simulated("a request without a reply fails at its timeout, or with its connection", async (simulation, connect) => {
    const client = connect();
    simulation.socket?.open();
    const slow = outcome(client.request("clientWait", {}, { timeoutMs: 200 }));
    simulation.pass(200);
    equal((await slow).code, "timeout");
    for (const lose of [() => simulation.socket?.end(1012), () => client.reconnect(), () => client.close()]) {
      const lost = outcome(client.request("clientWait"));
      lose();
      equal((await lost).code, "disconnected");
      client.retryNow();
      simulation.socket?.open();
    }
  }),

  simulated("a queued request survives a lost attempt, and has no effect if it fails in the queue", async (simulation, connect) => {
    const client = connect();
    const queued = client.request("clientRollDice", { sides: 6 });
    simulation.socket?.end(1006);
    const late = outcome(client.request("clientWait", {}, { timeoutMs: 1 }));
    simulation.pass(1);
    equal((await late).code, "notSent");
    client.retryNow();
    simulation.socket?.open();
    equal(simulation.socket?.sent.length, 1, "messages sent");
    simulation.socket?.receive({ type: "serverDiceRolled", payload: { value: 4 }, ref: "1" });
    equal((await queued).payload, { value: 4 });
    simulation.socket?.end(1006);
    const dropped = outcome(client.request("clientWait"));
    client.close();
    equal([(await dropped).code, (await outcome(client.request("clientWait"))).code], ["notSent", "notSent"]);
  }),

  simulated("a request with once is sent again over the next connection, before newer messages, until it is answered", async (simulation, connect) => {
    const client = connect();
    simulation.socket?.open();
    const sent = () => simulation.socket?.sent.map((text) => JSON.parse(text)).map(({ payload, ref }) => [payload.text, ref]);
    const say = (/** @type {string} */ text) => client.request("clientSendMessage", { text }, { once: true });
    const [first, second] = [say("a"), say("b")];
    client.send("clientSendMessage", { text: "plain" });
    equal([sent(), client.queuedMessages], [[["a", "1"], ["plain", undefined]], 1]);
    simulation.socket?.end(1006);
    client.send("clientSendMessage", { text: "newer" });
    simulation.pass(1_000);
    simulation.socket?.end(1006);
    equal(client.queuedMessages, 3);
    client.retryNow();
    simulation.socket?.open();
    equal(sent(), [["a", "1"], ["newer", undefined]]);
    client.reconnect();
    simulation.socket?.open();
    equal(sent(), [["a", "1"]]);
    simulation.socket?.receive({ type: "serverAck", payload: {}, ref: "1" });
    equal([await first, sent()], [{ type: "serverAck", payload: {} }, [["a", "1"], ["b", "2"]]]);
    simulation.socket?.receive({ type: "serverDone", payload: { n: 2 }, ref: "2" });
    equal([await second, client.queuedMessages], [{ type: "serverDone", payload: { n: 2 } }, 0]);
    simulation.socket?.end(1006);
    client.retryNow();
    simulation.socket?.open();
    equal(sent(), [], "messages after the replies");
    const ids = simulation.urls.map((url) => new URL(url).searchParams.get("client") ?? "");
    equal([new Set(ids).size, /^[0-9a-f]{32}$/.test(String(ids[0]))], [1, true], "ids of the client");
  }),

  simulated("a request with once is repeated while the server has no place for it, and the next one waits", async (simulation, connect) => {
    const client = connect({ baseDelayMs: 100, maxDelayMs: 1_000 });
    simulation.socket?.open();
    const refs = () => simulation.socket?.sent.map((text) => JSON.parse(text).ref);
    const first = client.request("clientSendMessage", {}, { once: true });
    const second = outcome(client.request("clientSendMessage", {}, { once: true }));
    const refuse = (/** @type {string} */ ref, /** @type {string} */ code) =>
      simulation.socket?.receive({ type: "serverError", payload: { code, error: "Later." }, ref });
    for (const [index, code] of ["unavailable", "tooManyMessages", "timeout"].entries()) {
      refuse("1", code);
      equal(refs()?.length, index + 1);
      simulation.pass(2_000);
      equal(refs()?.length, index + 2);
    }
    equal(refs(), ["1", "1", "1", "1"]);
    refuse("1", "unavailable");
    simulation.socket?.end(1012);
    client.retryNow();
    simulation.socket?.open();
    equal(refs(), ["1"], "at once after a reconnection");
    simulation.socket?.receive({ type: "serverAck", payload: {}, ref: "1" });
    equal((await first).type, "serverAck");
    refuse("2", "interrupted");
    equal([(await second).code, simulation.waitMs], ["interrupted", null]);
  }),

  simulated("a request with once fails at its timeout, and at the end of its client", async (simulation, connect) => {
    const client = connect({ maxQueuedMessages: 3 });
    const once = (/** @type {number} */ timeoutMs) => outcome(client.request("clientSendMessage", {}, { once: true, timeoutMs }));
    const [unsent, sent] = [once(1), once(50)];
    const queued = client.request("clientSendMessage", {}, { once: true });
    equal((await once(60)).code, "notSent", "above the bound");
    simulation.pass(1);
    equal((await unsent).code, "notSent");
    simulation.socket?.open();
    simulation.socket?.end(1006);
    simulation.pass(49);
    equal((await sent).code, "timeout", "in the queue again");
    const [waiting, last] = [once(5_000), once(5_000)];
    client.retryNow();
    simulation.socket?.open();
    equal(simulation.socket?.sent.map((text) => JSON.parse(text).ref), ["3"]);
    simulation.socket?.receive({ type: "serverAck", payload: {}, ref: "3" });
    equal((await queued).type, "serverAck");
    equal(simulation.socket?.sent.map((text) => JSON.parse(text).ref), ["3", "5"]);
    client.close();
    equal([(await waiting).code, (await last).code, client.queuedMessages], ["disconnected", "notSent", 0]);
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

// --- Several rooms on one connection ----------------------------------------------------------------

/** Return what a socket has sent, decoded. @param {FakeSocket | undefined} socket */
function sentBy(socket) {
  return (socket?.sent ?? []).map((text) => JSON.parse(text));
}

/** Confirm the rooms of a socket's requests to join. @param {FakeSocket | undefined} socket */
function confirmJoins(socket) {
  for (const { type, payload, ref } of sentBy(socket)) {
    if (type !== "clientJoin") continue;
    for (const { room } of payload.rooms) socket?.receive({ type: "serverJoined", payload: {}, ref, room });
  }
}

/** @type {Scenario[]} */
const roomScenarios = [
  simulated("rooms are joined by one message, and their messages are sorted", async (simulation, connect) => {
    const client = connect();
    const [a, b] = [client.join("a"), client.join("b")];
    equal(client.join("a") === a, true, "a room is joined twice");
    const [inA, inB, outside] = [collect(a, "note"), collect(b, "note"), collect(client, "note")];
    equal(a.send("early", {}), true);
    simulation.socket?.open();
    const [join, ...others] = sentBy(simulation.socket);
    equal(join.payload.rooms.map(({ room }) => room), ["a", "b"]);
    equal(others, []);
    equal([a.state, b.state], ["connecting", "connecting"]);
    confirmJoins(simulation.socket);
    equal([a.state, b.state], ["open", "open"]);
    equal(sentBy(simulation.socket).at(-1), { type: "early", payload: {}, room: "a" });
    simulation.socket?.receive({ type: "note", payload: 1, room: "a", id: "e:1" });
    simulation.socket?.receive({ type: "note", payload: 1, room: "a", id: "e:1" });
    simulation.socket?.receive({ type: "note", payload: 2, room: "b", id: "f:1" });
    simulation.socket?.receive({ type: "note", payload: 3 });
    simulation.socket?.receive({ type: "note", payload: 4, room: "unknown" });
    equal([inA, inB, outside], [[1], [2], [3]]);
    client.close();
    equal([a.state, b.state], ["closed", "closed"]);
    expectReleased(simulation, client);
  }),

  simulated("after a loss one message joins all rooms with their positions", async (simulation, connect) => {
    const client = connect();
    const rooms = ["a", "b", "c"].map((name) => client.join(name));
    simulation.socket?.open();
    confirmJoins(simulation.socket);
    simulation.socket?.receive({ type: "serverPosition", payload: { connection: "x" }, id: "e:4", room: "a" });
    simulation.socket?.receive({ type: "note", payload: {}, id: "e:5", room: "a" });
    simulation.socket?.receive({ type: "serverPosition", payload: { connection: "y" }, id: "f:0", room: "b" });
    const recoveries = /** @type {any[]} */ ([]);
    rooms[0].onRecovery((/** @type {any} */ recovery) => recoveries.push(recovery));
    simulation.socket?.end(1006);
    equal(client.state, "waiting");
    equal(rooms.map(({ state }) => state), ["connecting", "connecting", "connecting"]);
    await settle();
    simulation.pass(400);
    simulation.socket?.open();
    await settle();
    const joins = sentBy(simulation.socket).filter(({ type }) => type === "clientJoin");
    equal(joins.map(({ payload }) => payload.rooms), [
      [
        { room: "a", since: ["e:5"], connection: ["x"] },
        { room: "b", since: ["f:0"], connection: ["y"] },
        { room: "c", since: [], connection: [] },
      ],
    ]);
    confirmJoins(simulation.socket);
    simulation.socket?.receive({ type: "serverPosition", payload: { connection: "z", recovered: true }, id: "e:5", room: "a" });
    equal(recoveries, [{ recovered: true }]);
    equal(rooms.map(({ state }) => state), ["open", "open", "open"]);
    client.close();
  }),

  simulated("a refused room is closed or tried again by itself", async (simulation, connect) => {
    const client = connect();
    const [a, b, c] = [client.join("a"), client.join("b"), client.join("c")];
    simulation.socket?.open();
    const [{ ref }] = sentBy(simulation.socket);
    const refuse = (/** @type {string} */ room, /** @type {number} */ closeCode, /** @type {string} */ error) =>
      simulation.socket?.receive({ type: "serverError", payload: { code: "refused", error, closeCode }, ref, room });
    refuse("a", 4403, "by invitation only");
    refuse("b", 1013, "try again later");
    simulation.socket?.receive({ type: "serverJoined", payload: {}, ref, room: "c" });
    equal([a.state, a.status.code, a.status.reason], ["closed", 4403, "by invitation only"]);
    equal([b.state, c.state, client.state], ["waiting", "open", "open"]);
    simulation.pass(60_000);
    await settle();
    const retried = sentBy(simulation.socket).at(-1);
    equal([retried.type, retried.payload.rooms[0].room], ["clientJoin", "b"]);
    simulation.socket?.receive({ type: "serverJoined", payload: {}, ref: retried.ref, room: "b" });
    equal(b.state, "open");
    equal(client.join("a") === a, false, "a closed room is returned");
    client.close();
  }),

  simulated("a room is left by the client, or by the server", async (simulation, connect) => {
    const client = connect();
    const [a, b] = [client.join("a"), client.join("b")];
    simulation.socket?.open();
    confirmJoins(simulation.socket);
    a.leave();
    equal(sentBy(simulation.socket).at(-1), { type: "clientLeave", payload: { room: "a" } });
    equal([a.state, a.send("late", {})], ["closed", false]);
    const again = client.join("a");
    await settle();
    simulation.socket?.receive({ type: "serverLeft", payload: { code: 1000, reason: "" }, room: "a" });
    equal(again.state, "connecting");
    confirmJoins(simulation.socket);
    equal(again.state, "open");
    simulation.socket?.receive({ type: "serverLeft", payload: { code: 4403, reason: "banned" }, room: "b" });
    equal([b.state, b.status.code, b.status.reason, client.state], ["closed", 4403, "banned", "open"]);
    client.close();
  }),

  simulated("requests of rooms have references of their own, and settle in their room", async (simulation, connect) => {
    const client = connect();
    const [a, b] = [client.join("a"), client.join("b")];
    simulation.socket?.open();
    confirmJoins(simulation.socket);
    const replies = [a.request("ask", {}), b.request("ask", {}, { once: true }), client.request("ask", {})];
    const asked = sentBy(simulation.socket).filter(({ type }) => type === "ask");
    equal(new Set(asked.map(({ ref }) => ref)).size, 3, "a reference is used twice");
    equal(asked.map(({ room }) => room ?? null), ["a", "b", null]);
    for (const { ref, room } of asked) simulation.socket?.receive({ type: "answer", payload: { room }, ref, room });
    equal((await Promise.all(replies)).map(({ payload }) => payload.room ?? null), ["a", "b", null]);
    const once = b.request("ask", { again: true }, { once: true });
    const first = sentBy(simulation.socket).at(-1);
    simulation.socket?.end(1006);
    await settle();
    simulation.pass(400);
    simulation.socket?.open();
    await settle();
    equal(sentBy(simulation.socket).some(({ type }) => type === "ask"), false, "sent before the room is joined");
    confirmJoins(simulation.socket);
    equal(sentBy(simulation.socket).at(-1), first);
    simulation.socket?.receive({ type: "answer", payload: {}, ref: first.ref, room: "b" });
    equal((await once).type, "answer");
    client.close();
  }),

  simulated("a heartbeat shows a gap in any room, and the connection is replaced", async (simulation, connect) => {
    const client = connect();
    const a = client.join("a");
    simulation.socket?.open();
    confirmJoins(simulation.socket);
    simulation.socket?.receive({ type: "serverPosition", payload: { connection: "x" }, id: "e:4", room: "a" });
    const beat = (/** @type {string} */ id) => ({ type: "serverPosition", payload: { heartbeatSeconds: 20, rooms: { a: [id], b: ["f:1"] } } });
    simulation.socket?.receive(beat("e:4"));
    equal([client.state, simulation.sockets.length], ["open", 1]);
    simulation.socket?.receive(beat("e:5"));
    equal([client.state, a.state, simulation.sockets.length], ["connecting", "connecting", 2]);
    simulation.socket?.open();
    await settle();
    equal(sentBy(simulation.socket)[0].payload.rooms, [{ room: "a", since: ["e:4"], connection: ["x"] }]);
    client.close();
  }),
];

scenarios.push(...roomScenarios);

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
