/**
 * What the browser client promises, as scenarios that run in Node and in a browser alike.
 *
 * Most of them talk to `counterpart.py` over real connections; those that are about exact times and
 * bounds play the server, the clock and chance themselves, without a wait.
 */

/**
 * @typedef {object} Context
 * @property {any} realtime The module `realtime.js`.
 * @property {string} url Below it the counterpart answers: `ws://127.0.0.1:1234/ws/`.
 * @property {Service} [service] Only for `serviceScenarios`.
 */

/**
 * @typedef {object} Service
 * @property {string} url A room of the service.
 * @property {(name: string) => Promise<object>} signIn Gives the options of a connection by this user.
 */

/** @typedef {Record<"name", string> & Record<"run", (context: Context) => void | Promise<void>>} Scenario */

const WAIT_MS = 10_000;
const QUICK = { baseDelayMs: 20, maxDelayMs: 40 };
const NEVER_AGAIN = { baseDelayMs: 3_600_000, maxDelayMs: 3_600_000 };

const TERMINAL = [1002, 1003, 1007, 1008, 1009, 1010, 3400, 3401, 3403, 3404, 3499, 4400, 4401, 4403, 4408, 4499];
const RETRYABLE = [1000, 1001, 1011, 1012, 1013, 1014, 3000, 3399, 3408, 3425, 3429, 3500, 4000, 4008, 4029, 4399, 4500];

// --- Words -----------------------------------------------------------------------------------------

/** @param {unknown} condition @param {string} words */
function check(condition, words) {
  if (!condition) throw new Error(words);
}

/** @param {unknown} actual @param {unknown} expected @param {string} [words] */
function equal(actual, expected, words = "") {
  const [is, should] = [JSON.stringify(actual), JSON.stringify(expected)];
  check(is === should, `${words}: it is ${is}, not ${should}`);
}

/** @param {() => void} action @param {string} name */
function throws(action, name) {
  try {
    action();
  } catch (error) {
    equal(error instanceof Error && error.name, name);
    return;
  }
  check(false, `nothing was thrown, not ${name}`);
}

/**
 * @template T
 * @param {string} words What is waited for.
 * @param {(resolve: (value: T) => void) => void} start
 * @returns {Promise<T>}
 */
async function bounded(words, start) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  try {
    return await new Promise((resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`waited in vain for ${words}`)), WAIT_MS);
      start(resolve);
    });
  } finally {
    clearTimeout(timer);
  }
}

/** The status, once it is this state. @param {any} client @param {string} state @returns {Promise<any>} */
function reach(client, state) {
  return bounded(state, (resolve) => {
    if (client.state === state) resolve(client.status);
    client.onStatus((/** @type {any} */ status) => status.state === state && resolve(status));
  });
}

/** The payload of the next message of a type. @param {any} client @param {string} type @returns {Promise<any>} */
function next(client, type) {
  return bounded(type, (resolve) => {
    const stop = client.on(type, (/** @type {any} */ payload) => {
      stop();
      resolve(payload);
    });
  });
}

/** All that comes of a type. @param {any} client @param {string} type */
function collect(client, type) {
  /** @type {any[]} */
  const payloads = [];
  client.on(type, (/** @type {any} */ payload) => payloads.push(payload));
  return payloads;
}

/**
 * The next messages of a type: Node may tell of several in one go.
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

/** All statuses from now on. @param {any} client */
function statuses(client) {
  /** @type {any[]} */
  const seen = [];
  client.onStatus((/** @type {any} */ status) => seen.push(status));
  return seen;
}

/**
 * Connects to the counterpart, under a name that nobody else has; the client is closed at the end.
 *
 * @param {Context} context
 * @param {string} steps
 * @param {object} options
 * @param {(client: any, name: string) => Promise<void>} action
 */
async function talking({ realtime, url }, steps, options, action) {
  const address = new URL(`${url}${crypto.randomUUID()}?steps=${steps}`);
  const client = realtime.connect(address, options);
  try {
    await action(client, address.pathname);
  } finally {
    client.close();
  }
}

/**
 * Asks the counterpart about a name, when as many of its connections are open as are said.
 *
 * @param {Context} context
 * @param {string} name
 * @param {number} open
 * @returns {Promise<{ connections: number, queries: string[], received: any[] }>}
 */
async function report(context, name, open) {
  /** @type {any} */
  let answer;
  await talking(context, "echo", {}, async (client) => {
    client.send("report", { name, open });
    answer = await next(client, "report");
  });
  return answer;
}

/** What is written to the console meanwhile. @param {() => void | Promise<void>} action */
async function complaints(action) {
  /** @type {any[]} */
  const heard = [];
  const restore = replace(console, { error: heard.push.bind(heard), warn: heard.push.bind(heard) });
  try {
    await action();
  } finally {
    restore();
  }
  return heard;
}

/** @param {object} object @param {Record<string, unknown>} values @returns {() => void} Undoes it. */
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

// --- A world of its own ----------------------------------------------------------------------------

/** The other side of a connection, played by the scenario. */
class FakeSocket extends EventTarget {
  readyState = 0;
  bufferedAmount = 0;
  /** @type {string[]} */
  sent = [];
  /** @type {unknown[][]} */
  closings = [];
  /** Called within `close`. */
  onClosing = () => {};

  /** @param {string} text */
  send(text) {
    check(this.readyState === 1, "it sends while there is no connection");
    this.sent.push(text);
  }

  /** @param {number} [code] @param {string} [reason] */
  close(code, reason) {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999)) {
      throw new DOMException("no such code", "InvalidAccessError");
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

/** The clock, chance, the network and the console, in the hands of a scenario. */
class World {
  nowMs = 1_000_000;
  random = 0.5;
  lastTimer = 0;
  /** @type {Map<number, { atMs: number, call: () => void }>} */
  timers = new Map();
  /** @type {FakeSocket[]} */
  sockets = [];
  /** @type {string[]} */
  urls = [];
  /** @type {Set<() => void>} */
  onlineListeners = new Set();
  /** @type {any[]} */
  complaints = [];

  get socket() {
    return this.sockets[this.sockets.length - 1];
  }

  /** Lets time pass. @param {number} ms */
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

  /** How long the client waits for its next timer, or null. */
  get waitMs() {
    const [timer] = this.timers.values();
    equal(this.timers.size <= 1, true, "more than one timer");
    return timer ? timer.atMs - this.nowMs : null;
  }
}

/**
 * Makes a scenario that is played in a world of its own, from begin to end without a wait.
 *
 * @param {string} name
 * @param {(world: World, connect: (options?: object) => any, context: Context) => void} play
 * @returns {Scenario}
 */
function played(name, play) {
  const run = (/** @type {Context} */ context) => {
    const world = new World();
    const undo = [
      replace(globalThis, {
        setTimeout(/** @type {() => void} */ call, /** @type {number} */ ms) {
          world.timers.set(++world.lastTimer, { atMs: world.nowMs + ms, call });
          return world.lastTimer;
        },
        clearTimeout: (/** @type {number} */ timer) => world.timers.delete(timer),
        addEventListener: (/** @type {string} */ type, /** @type {() => void} */ listener) =>
          check(type === "online" && world.onlineListeners.add(listener), type),
        removeEventListener: (/** @type {string} */ type, /** @type {() => void} */ listener) =>
          check(type === "online" && world.onlineListeners.delete(listener), type),
        WebSocket: class extends FakeSocket {
          /** @param {string} url */
          constructor(url) {
            super();
            world.sockets.push(this);
            world.urls.push(url);
          }
        },
      }),
      replace(Date, { now: () => world.nowMs + 1_700_000_000_000 }),
      replace(performance, { now: () => world.nowMs }),
      replace(Math, { random: () => world.random }),
      replace(console, {
        error: (/** @type {any} */ said) => world.complaints.push(said),
        warn: (/** @type {any} */ said) => world.complaints.push(said),
      }),
    ];
    try {
      play(world, (options) => context.realtime.connect("ws://server.test/room", options), context);
    } finally {
      for (const restore of undo) restore();
    }
  };
  return { name, run };
}

/** @param {World} world @param {any} client */
function nothingIsLeft(world, client) {
  equal(client.state, "closed");
  equal(world.timers.size, 0, "timers left");
  equal(world.onlineListeners.size, 0, "listeners left");
  equal(client.queuedMessages, 0, "messages left");
  for (const socket of world.sockets) check(socket.readyState >= 2, "a socket is left open");
  const sockets = world.sockets.length;
  client.retryNow();
  world.pass(3_600_000);
  equal(world.sockets.length, sockets, "it connects again");
  equal(client.send("late"), false, "a message was taken");
}

// --- Codes and waits -------------------------------------------------------------------------------

/** @type {Scenario[]} */
export const scenarios = [
  {
    name: "the codes that forbid another try are those of the contract, and no others",
    run({ realtime }) {
      const ranges = [[1002, 1003], [1007, 1010], [3400, 3407], [3409, 3424], [3426, 3428], [3430, 3499], [4400, 4499]];
      for (let code = 0; code <= 5_000; code++) {
        const isTerminal = ranges.some(([first = 0, last = 0]) => code >= first && code <= last);
        equal(realtime.isTerminalCode(code), isTerminal, `code ${code}`);
      }
    },
  },

  played("a client ends on each terminal code and tries again on each other one", (world, connect, { realtime }) => {
    for (let code = 1000; code <= 4999; code++) {
      const client = connect();
      world.socket?.open();
      world.socket?.end(code, "why");
      const state = realtime.isTerminalCode(code) ? "closed" : "waiting";
      equal([client.state, client.status.code, client.status.reason], [state, code, "why"], `code ${code}`);
      if (state === "closed") equal(world.timers.size, 0, `timers after ${code}`);
      client.close();
    }
    equal([world.timers.size, world.onlineListeners.size], [0, 0], "timers and listeners left");
  }),

  played("a wait is a random part of a bound that doubles up to the longest", (world, _, { realtime }) => {
    for (const random of [0, 0.25, 0.999]) {
      world.random = random;
      const delays = [0, 1, 2, 3, 4, 5, 6, 50].map((failures) => realtime.retryDelayMs(failures, 500, 30_000));
      equal(delays, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000].map((bound) => random * bound));
    }
    equal(realtime.retryDelayMs(5_000, 0, 30_000), 0, "no base");
    equal(realtime.retryDelayMs(5_000, 1, 30_000), 0.999 * 30_000, "many failures");
  }),

  {
    name: "waits fill the whole range: full jitter",
    run({ realtime }) {
      const delays = Array.from({ length: 2_000 }, () => realtime.retryDelayMs(3, 100, 10_000));
      check(delays.every((delay) => delay >= 0 && delay < 800), "a wait is out of bounds");
      for (let tenth = 0; tenth < 10; tenth++) {
        check(delays.some((delay) => Math.floor(delay / 80) === tenth), `no wait in tenth ${tenth}`);
      }
    },
  },

  played("each failure doubles the wait, and the status says when the next try is", (world, connect) => {
    const client = connect({ baseDelayMs: 100, maxDelayMs: 1_000 });
    for (const waitMs of [50, 100, 200, 400, 500, 500]) {
      world.socket?.end(1006);
      equal(world.waitMs, waitMs);
      equal(client.status, { state: "waiting", nextTryAtMs: Date.now() + waitMs, code: 1006, reason: "" });
      const tries = world.sockets.length;
      world.pass(waitMs - 1);
      equal([world.sockets.length, client.state], [tries, "waiting"], "too early");
      world.pass(1);
      equal([world.sockets.length, client.state], [tries + 1, "connecting"], "the next try");
      equal(client.status, { state: "connecting", nextTryAtMs: null, code: null, reason: "" });
    }
  }),

  played("only a connection that has lasted makes the waits short again", (world, connect) => {
    connect({ baseDelayMs: 100, maxDelayMs: 10_000, stableAfterMs: 5_000 });
    for (const [livedMs = 0, waitMs = 0] of [[0, 50], [0, 100], [4_999, 200], [5_000, 50], [0, 100], [60_000, 50]]) {
      world.socket?.open();
      world.pass(livedMs);
      world.socket?.end(1012);
      equal(world.waitMs, waitMs, `after ${livedMs} ms`);
      world.pass(waitMs);
    }
  }),

  played("the time to connect does not count as a stable connection", (world, connect) => {
    connect({ baseDelayMs: 100, stableAfterMs: 1_000, connectTimeoutMs: 9_000 });
    for (const waitMs of [50, 100, 200]) {
      world.pass(8_000);
      world.socket?.end(1006);
      equal(world.waitMs, waitMs);
      world.pass(waitMs);
    }
  }),

  played("a try without an answer is given up, and what comes of it later is no news", (world, connect) => {
    const client = connect({ connectTimeoutMs: 700, baseDelayMs: 100 });
    const heard = collect(client, "late");
    const slow = world.socket;
    world.pass(699);
    equal(client.state, "connecting");
    world.pass(1);
    equal(client.status, { state: "waiting", nextTryAtMs: Date.now() + 50, code: 1006, reason: "" });
    equal(slow?.closings.length, 1, "closings");
    slow?.open();
    slow?.receive({ type: "late" });
    slow?.fail();
    slow?.end(4401);
    equal([client.state, heard.length, world.waitMs], ["waiting", 0, 50]);
    world.pass(50);
    world.socket?.open();
    slow?.end(1006);
    equal([client.state, world.timers.size], ["open", 0]);
  }),

  played("options that are undefined have their defaults", (world, connect) => {
    const client = connect({ baseDelayMs: undefined, connectTimeoutMs: undefined, maxQueuedMessages: undefined });
    equal(world.waitMs, 10_000, "timeout");
    world.socket?.fail();
    equal(world.waitMs, 250, "wait");
    for (let number = 1; number <= 101; number++) equal(client.send("a"), number <= 100, `message ${number}`);
  }),

  // --- Ends and new beginnings ---------------------------------------------------------------------

  played("close() leaves nothing behind in any state", (world, connect) => {
    const connecting = connect();
    connecting.send("kept");
    connecting.close();
    equal(world.socket?.closings, [[1000, ""]]);
    nothingIsLeft(world, connecting);

    const open = connect();
    world.socket?.open();
    open.close(4000, "enough");
    equal(world.socket?.closings, [[4000, "enough"]]);
    equal(open.status, { state: "closed", nextTryAtMs: null, code: 4000, reason: "enough" });
    nothingIsLeft(world, open);
    world.socket?.end(1006);
    equal(open.status.code, 4000, "the socket's end changes nothing");

    const waiting = connect();
    world.socket?.end(1006);
    waiting.close();
    nothingIsLeft(world, waiting);

    const ended = connect();
    world.socket?.open();
    world.socket?.end(4401);
    const seen = statuses(ended);
    ended.close();
    equal([seen.length, ended.status.code], [0, 4401], "a second end");
    nothingIsLeft(world, ended);
  }),

  played("a socket that tells of its end within close() does not count as lost", (world, connect) => {
    const client = connect();
    const socket = world.socket;
    const seen = statuses(client);
    if (socket) {
      socket.onClosing = () => {
        socket.fail();
        socket.end(1006);
      };
    }
    client.close();
    equal(seen.map(({ state }) => state), ["closed"]);
    nothingIsLeft(world, client);
  }),

  played("a code that close() cannot send changes nothing", (world, connect) => {
    const client = connect();
    world.socket?.open();
    throws(() => client.close(1001), "InvalidAccessError");
    equal([client.state, client.send("still"), world.socket?.sent.length], ["open", true, 1]);
    world.socket?.end(1012);
    equal(client.state, "waiting");
  }),

  played("retryNow() ends the wait, and does nothing else at any other time", (world, connect) => {
    const client = connect(NEVER_AGAIN);
    client.retryNow();
    world.socket?.open();
    client.retryNow();
    equal(world.sockets.length, 1);
    world.socket?.end(1006);
    const { retryNow } = client;
    retryNow();
    retryNow();
    equal([client.state, world.sockets.length, world.waitMs], ["connecting", 2, 10_000]);
  }),

  played("a network that comes back ends the wait", (world, connect) => {
    const client = connect(NEVER_AGAIN);
    equal(world.onlineListeners.size, 1);
    world.socket?.end(1006);
    for (const listener of world.onlineListeners) listener();
    equal([client.state, world.sockets.length], ["connecting", 2]);
    world.socket?.open();
    for (const listener of world.onlineListeners) listener();
    equal([client.state, world.sockets.length], ["open", 2]);
    client.close();
    nothingIsLeft(world, client);
  }),

  played("addresses are made WebSocket addresses, and a bad one leaves nothing behind", (world, _, { realtime }) => {
    for (const [given, used] of [
      ["http://a.test/x?y=1", "ws://a.test/x?y=1"],
      ["https://a.test/x", "wss://a.test/x"],
      ["wss://a.test/x", "wss://a.test/x"],
      [new URL("http://a.test:81/x"), "ws://a.test:81/x"],
    ]) {
      realtime.connect(given).close();
      equal(world.urls.pop(), used);
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
    equal([world.timers.size, world.onlineListeners.size], [0, 0], "timers and listeners left");
  }),

  // --- Recovery ------------------------------------------------------------------------------------

  played("who comes back says where it stands, and hears nothing twice", (world, connect) => {
    const client = connect();
    equal(new URL(world.urls.at(-1) ?? "").search, "", "the first try says nothing");
    world.socket?.open();
    /** @type {unknown[]} */
    const heard = [];
    client.on("said", (/** @type {any} */ { number }) => heard.push(number));
    client.on("serverPosition", () => heard.push("position"));
    client.onRecovery((/** @type {any} */ recovery) => heard.push(recovery));
    const hear = (/** @type {string} */ type, /** @type {any} */ payload, /** @type {any} */ id) =>
      world.socket?.receive({ type, payload, id });
    hear("serverPosition", { connection: "c1" }, "e:4");
    hear("said", { number: 5 }, "e:5");
    hear("said", { number: 5 }, "e:5");
    hear("said", { number: 3 }, "e:3");
    hear("said", { number: "other" }, "f:1");
    for (const id of [undefined, 7, "", "e", "e:", "e:x", ":1", null]) hear("said", { number: "no place" }, id);
    equal(heard, ["position", 5, "other", ...Array(8).fill("no place")]);
    world.socket?.end(1006);
    client.retryNow();
    const back = new URL(world.urls.at(-1) ?? "").searchParams;
    equal([back.getAll("since"), back.getAll("connection")], [["e:5", "f:1"], ["c1"]]);
    world.socket?.open();
    heard.length = 0;
    hear("said", { number: 5 }, "e:5");
    hear("said", { number: 7 }, "e:7");
    hear("serverPosition", { connection: "c2", recovered: true }, "e:8");
    hear("said", { number: 9 }, "e:9");
    equal(heard, [7, "position", { recovered: true }, 9]);
    world.socket?.end(1006);
    client.retryNow();
    const again = new URL(world.urls.at(-1) ?? "").searchParams;
    equal([again.getAll("since"), again.get("connection")], [["f:1", "e:9"], "c2"]);
  }),

  played("where something is lost, it goes on from where the server says", (world, connect) => {
    const client = connect();
    world.socket?.open();
    /** @type {unknown[]} */
    const heard = [];
    client.on("said", (/** @type {any} */ { number }) => heard.push(number));
    const stop = client.onRecovery((/** @type {any} */ { recovered }) => heard.push(recovered));
    const hear = (/** @type {string} */ type, /** @type {any} */ payload, /** @type {string} */ id) =>
      world.socket?.receive({ type, payload, id });
    hear("said", { number: 20 }, "e:20");
    hear("serverPosition", { connection: "c1", recovered: false }, "e:10");
    hear("said", { number: 11 }, "e:11");
    hear("serverPosition", { connection: "c1", recovered: false }, "new:0");
    hear("said", { number: 1 }, "new:1");
    equal(heard, [20, false, 11, false, 1]);
    equal([stop(), stop()], [true, false]);
    hear("serverPosition", { connection: "c1", recovered: false }, "new:1");
    equal(heard.length, 5);
    for (let number = 0; number < 20; number += 1) hear("said", { number }, `epoch${number}:1`);
    hear("said", { number: "kept" }, "epoch4:2");
    client.reconnect();
    equal(client.state, "connecting");
    const since = new URL(world.urls.at(-1) ?? "").searchParams.getAll("since");
    equal([since.length, since[0], since.at(-1)], [16, "epoch5:1", "epoch4:2"]);
    client.reconnect();
    equal(client.state, "connecting", "it does nothing while it is not open");
  }),

  // --- Queue ---------------------------------------------------------------------------------------

  played("what waits is bounded, and goes out in order before all that is new", (world, connect) => {
    const client = connect({ maxQueuedMessages: 3 });
    const taken = [1, 2, 3, 4].map((number) => client.send("a", { number }));
    equal([taken, client.queuedMessages], [[true, true, true, false], 3]);
    client.onStatus((/** @type {any} */ { state }) => state === "open" && client.send("b"));
    world.socket?.open();
    equal(client.send("c"), true);
    equal(world.socket?.sent, [
      '{"type":"a","payload":{"number":1}}',
      '{"type":"a","payload":{"number":2}}',
      '{"type":"a","payload":{"number":3}}',
      '{"type":"b","payload":{}}',
      '{"type":"c","payload":{}}',
    ]);
    equal(client.queuedMessages, 0);
    world.socket?.end(1006);
    equal(client.send("d"), true);
    client.retryNow();
    world.socket?.open();
    equal(world.socket?.sent, ['{"type":"d","payload":{}}', '{"type":"b","payload":{}}']);
  }),

  played("what the socket cannot send in time is bounded", (world, connect) => {
    const client = connect({ maxBufferedBytes: 1_000 });
    world.socket?.open();
    for (const [bytes = 0, taken] of [[1_000, true], [1_001, false], [0, true]]) {
      if (world.socket) world.socket.bufferedAmount = Number(bytes);
      equal(client.send("a"), taken, `${bytes} bytes`);
    }
    equal(world.socket?.sent.length, 2);
  }),

  played("a message for a connection that is about to end waits for the next one", (world, connect) => {
    const client = connect({ maxQueuedMessages: 1 });
    world.socket?.open();
    if (world.socket) world.socket.readyState = 2;
    equal([client.state, client.send("a"), client.send("b"), client.queuedMessages], ["open", true, false, 1]);
    world.socket?.end(1012);
    client.retryNow();
    world.socket?.open();
    equal(world.socket?.sent, ['{"type":"a","payload":{}}']);
  }),

  // --- Listeners -----------------------------------------------------------------------------------

  played("a listener that throws disturbs nobody", (world, connect) => {
    const client = connect();
    client.on("a", () => {
      throw new Error("of a message");
    });
    client.onStatus(() => {
      throw new Error("of a status");
    });
    const [heard, seen] = [collect(client, "a"), statuses(client)];
    world.socket?.open();
    world.socket?.receive({ type: "a", payload: { number: 1 } });
    world.socket?.end(1012);
    equal(heard, [{ number: 1 }]);
    equal(seen.map(({ state }) => state), ["open", "waiting"]);
    equal(world.complaints.map(({ message }) => message), ["of a status", "of a message", "of a status"]);
    equal(world.timers.size, 1, "timers");
  }),

  played("a listener that closes is the last one to hear a message", (world, connect) => {
    const client = connect();
    client.on("a", () => client.close());
    const heard = collect(client, "a");
    world.socket?.open();
    world.socket?.receive({ type: "a" });
    world.socket?.receive({ type: "a" });
    equal(heard, []);
    nothingIsLeft(world, client);
  }),

  played("a status listener that closes or retries is followed by the new status only", (world, connect) => {
    for (const [from, action, to] of [
      ["connecting", "close", "closed"],
      ["open", "close", "closed"],
      ["waiting", "close", "closed"],
      ["waiting", "retryNow", "connecting"],
    ]) {
      const client = connect();
      if (from === "connecting") world.socket?.end(1006);
      client.onStatus((/** @type {any} */ { state }) => state === from && client[String(action)]());
      const seen = statuses(client);
      if (from === "connecting") client.retryNow();
      else world.socket?.open();
      if (from === "waiting") world.socket?.end(1006);
      equal(seen.map(({ state }) => state), from === "waiting" ? ["open", to] : [to], `${action} on ${from}`);
      client.close();
      nothingIsLeft(world, client);
    }
  }),

  played("each subscription is one of its own and ends once", (world, connect) => {
    const client = connect();
    /** @type {string[]} */
    const heard = [];
    const listener = () => heard.push("twice");
    const ends = [client.on("a", listener), client.on("a", listener)];
    const endLast = client.on("b", () => heard.push("b"));
    world.socket?.open();
    const hear = (/** @type {string} */ type) => {
      heard.length = 0;
      world.socket?.receive({ type });
      return heard.length;
    };
    equal(hear("a"), 2);
    equal([ends[0](), ends[0](), hear("a")], [true, false, 1]);
    equal([ends[1](), hear("a"), hear("b"), endLast(), hear("b")], [true, 0, 1, true, 0]);
    let ofTheNewStatus = 0;
    const end = client.onStatus(() => (ofTheNewStatus += 1));
    world.socket?.end(1006);
    equal([end(), end()], [true, false]);
    client.retryNow();
    equal(ofTheNewStatus, 1);
  }),

  played("one listener can end another, and begin one for the next message", (world, connect) => {
    const client = connect();
    /** @type {string[]} */
    const heard = [];
    const endFirst = client.on("a", () => {
      endFirst();
      endSecond();
      client.on("a", () => heard.push("new"));
    });
    const endSecond = client.on("a", () => heard.push("ended"));
    world.socket?.open();
    world.socket?.receive({ type: "a" });
    equal(heard, []);
    world.socket?.receive({ type: "a" });
    equal(heard, ["new"]);
  }),

  // --- Over real connections -----------------------------------------------------------------------

  {
    name: "messages go both ways, and the status is told",
    run: (context) =>
      talking(context, "echo", {}, async (client, name) => {
        const seen = statuses(client);
        equal(client.status, { state: "connecting", nextTryAtMs: null, code: null, reason: "" });
        check(client instanceof context.realtime.RealtimeClient, "it is a RealtimeClient");
        await reach(client, "open");
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
    name: "a refused try is tried again, and what was said meanwhile arrives in order",
    run: (context) =>
      talking(context, "refuse,refuse,echo", QUICK, async (client, name) => {
        const seen = statuses(client);
        for (const number of [1, 2, 3]) equal(client.send("kept", { number }), true);
        await reach(client, "open");
        client.send("new");
        const heard = await gather(client, "echo", 4);
        equal(heard.map(({ type, payload }) => [type, payload.number]), [["kept", 1], ["kept", 2], ["kept", 3], ["new", undefined]]);
        const states = ["waiting", "connecting", "waiting", "connecting", "open"];
        equal(seen.map(({ state }) => state), states);
        for (const { state, code, nextTryAtMs } of seen) {
          equal([code, nextTryAtMs !== null], state === "waiting" ? [1006, true] : [null, false], state);
        }
        equal((await report(context, name, 1)).connections, 3, "connections");
      }),
  },

  {
    name: "each terminal code from a server ends it",
    async run(context) {
      for (const code of TERMINAL) {
        await talking(context, `close:${code},echo`, QUICK, async (client, name) => {
          equal(await reach(client, "closed"), { state: "closed", nextTryAtMs: null, code, reason: "as told" });
          equal(client.send("late"), false, "a message was taken");
          equal((await report(context, name, 0)).connections, 1, "connections");
        });
      }
    },
  },

  {
    name: "each other code from a server means another try",
    async run(context) {
      for (const code of RETRYABLE) {
        await talking(context, `close:${code},echo`, QUICK, async (client, name) => {
          const waiting = await reach(client, "waiting");
          equal([waiting.code, waiting.reason], [code, "as told"]);
          await reach(client, "open");
          equal((await report(context, name, 1)).connections, 2, "connections");
        });
      }
    },
  },

  {
    name: "a connection that is cut off, early or late, is made again",
    run: (context) =>
      talking(context, "abort,echo", QUICK, async (client, name) => {
        const seen = statuses(client);
        client.send("kept");
        while (seen.filter(({ state }) => state === "open").length < 2) await nextStatus(client);
        client.send("abort");
        equal((await reach(client, "waiting")).code, 1006);
        await reach(client, "open");
        client.send("hello");
        equal((await next(client, "echo")).type, "hello");
        equal((await report(context, name, 1)).connections, 3, "connections");
      }),
  },

  {
    name: "who was cut off says in its URL where it stood, and hears nothing twice",
    run: (context) =>
      talking(context, "echo,refuse,echo", QUICK, async (client, name) => {
        /** @type {unknown[]} */
        const heard = [];
        client.on("said", (/** @type {any} */ { text }) => heard.push(text));
        client.onRecovery((/** @type {any} */ { recovered }) => heard.push(recovered));
        const order = (/** @type {string} */ type, /** @type {object} */ payload, /** @type {string} */ id) =>
          client.send("raw", { text: JSON.stringify({ type, payload, id }) });
        order("serverPosition", { connection: "first" }, "a:1");
        order("said", { text: "one" }, "a:2");
        order("said", { text: "other room" }, "b:7");
        order("end", {}, "");
        await next(client, "end");
        client.send("abort");
        await reach(client, "waiting");
        await reach(client, "open");
        order("said", { text: "one" }, "a:2");
        order("said", { text: "two" }, "a:3");
        order("serverPosition", { connection: "second", recovered: true }, "a:3");
        order("said", { text: "two" }, "a:3");
        order("said", { text: "three" }, "a:4");
        order("serverPosition", { connection: "second", recovered: false }, "c:0");
        order("end", {}, "");
        await next(client, "end");
        equal(heard, ["one", "other room", "two", true, "three", false]);
        const [first, ...later] = (await report(context, name, 1)).queries;
        equal(first, "steps=echo,refuse,echo", "the first try says nothing");
        equal(later.length, 2, "connections after the first");
        for (const query of later) {
          const said = [...new URLSearchParams(query)].map((pair) => pair.join("="));
          equal(said, ["steps=echo,refuse,echo", "since=a:2", "since=b:7", "connection=first"]);
        }
      }),
  },

  {
    name: "a server that breaks the protocol is left and tried again",
    run: (context) =>
      talking(context, "garbage,echo", QUICK, async (client, name) => {
        equal((await reach(client, "waiting")).code, 1006);
        await reach(client, "open");
        equal((await report(context, name, 1)).connections, 2, "connections");
      }),
  },

  {
    name: "a server that never answers is given up, and its socket too",
    run: (context) =>
      talking(context, "silent,echo", { ...QUICK, connectTimeoutMs: 300 }, async (client, name) => {
        equal((await reach(client, "waiting")).code, 1006);
        await reach(client, "open");
        equal((await report(context, name, 1)).connections, 2, "connections");
      }),
  },

  {
    name: "close() while connecting, while open and while waiting leaves no connection",
    async run(context) {
      for (const [steps, state] of [["silent", "connecting"], ["echo", "open"], ["refuse", "waiting"]]) {
        await talking(context, String(steps), NEVER_AGAIN, async (client, name) => {
          await reach(client, String(state));
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
    name: "retryNow() makes a new connection at once",
    run: (context) =>
      talking(context, "close:1012,echo", NEVER_AGAIN, async (client) => {
        await reach(client, "waiting");
        client.retryNow();
        equal(client.state, "connecting");
        await reach(client, "open");
      }),
  },

  {
    name: "what is no message is reported and ignored",
    run: (context) =>
      talking(context, "echo", {}, async (client) => {
        const bad = ["", "{", "null", "1", "[]", '"text"', "{}", '{"type": 1}', '{"type": null, "payload": {}}'];
        const heard = await complaints(async () => {
          for (const text of bad) client.send("raw", { text });
          client.send("binary");
          client.send("raw", { text: '{"type": "nobody listens", "payload": {}}' });
          client.send("raw", { text: '{"type": "constructor"}' });
          client.send("hello");
          equal((await next(client, "echo")).type, "hello");
        });
        equal(heard.length, bad.length + 1, "complaints");
        equal(client.state, "open");
      }),
  },

  {
    name: "a missing payload is an empty one",
    run: (context) =>
      talking(context, "echo", {}, async (client) => {
        for (const text of ['{"type": "a"}', '{"type": "a", "payload": null}']) {
          client.send("raw", { text });
          equal(await next(client, "a"), {}, text);
        }
      }),
  },

  {
    name: "it answers the server's pings and says nothing by itself",
    run: (context) =>
      talking(context, "echo", {}, async (client, name) => {
        client.send("ping");
        await next(client, "pong");
        equal((await report(context, name, 1)).received, [{ type: "ping", payload: {} }]);
      }),
  },

  {
    name: "a server that does not read makes send() refuse, and loses nothing that was taken",
    run: (context) =>
      talking(context, "deaf", { maxBufferedBytes: 100_000 }, async (client, name) => {
        await reach(client, "open");
        const text = "x".repeat(60_000);
        let taken = 0;
        while (client.send("many", { number: taken, text })) {
          taken += 1;
          check(taken < 2_000, "it takes more and more");
        }
        const echoes = gather(client, "echo", taken);
        await talking(context, "echo", {}, async (other) => {
          other.send("release", { name });
          other.send("hello");
          await next(other, "echo");
        });
        equal((await echoes).map(({ payload }) => payload.number), Array.from({ length: taken }, (_, number) => number));
        equal(client.send("again"), true, "it takes messages again");
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

// --- With the service ------------------------------------------------------------------------------

/** @type {Scenario[]} */
export const serviceScenarios = [
  {
    name: "a stranger is told so and not tried again; who has signed in talks",
    async run({ realtime, service }) {
      check(service, "there is no service");
      if (!service) return;
      const stranger = realtime.connect(service.url, QUICK);
      const ended = await reach(stranger, "closed");
      equal([ended.code, ended.nextTryAtMs], [4401, null]);

      const client = realtime.connect(service.url, await service.signIn("Alice"));
      try {
        const welcome = next(client, "serverSystemMessage");
        equal(await next(client, "serverRoomState"), { users: ["Alice"], you: "Alice" });
        check((await welcome).text.startsWith("Welcome Alice"), "no welcome");
        client.send("clientSendMessage", { text: "Hello" });
        equal(await next(client, "serverNewMessage"), { user: "Alice", text: "Hello" });
        client.send("clientSendMessage", { text: "" });
        const { code, field } = await next(client, "serverError");
        equal([code, field], ["invalidPayload", "text"]);
        equal(client.state, "open");
      } finally {
        client.close();
      }
    },
  },
];
