/** The page /inspect: the live state of the service. Its data is that of the command `inspect --json`. */

import { byId, urlOf } from "../page.js";
import { Actions } from "./actions.js";
import { Chart } from "./chart.js";
import { duration, number, size } from "./numbers.js";
import { Rates } from "./rates.js";
import { Table } from "./table.js";

/** @typedef {{ name: string, users: number, connections: number }} Room */
/** @typedef {{ id: string, user: string | null, route: string | null, seconds: number, backlog_bytes: number, rooms: string[], room_count: number }} Connection */
/** @typedef {{ outage: string, unavailable_seconds: number, calls: number, call_seconds: number }} Redis */
/**
 * @typedef {object} Process
 * @property {number} pid
 * @property {Room[]} rooms
 * @property {number} room_count
 * @property {Connection[]} connections
 * @property {number} connection_count
 * @property {import("./rates.js").Counts | null} counts
 * @property {Redis | null} redis
 */
/** @typedef {{ process: Process, connection: Connection }} Client */

const INTERVAL_MS = 1000;
const MAX_MEMBERS = 20;

const page = {
  status: byId("status", HTMLElement),
  problem: byId("problem", HTMLElement),
  pause: byId("pause", HTMLButtonElement),
  charts: byId("charts", HTMLElement),
  user: byId("user", HTMLInputElement),
  roomCount: byId("room-count", HTMLElement),
  connectionCount: byId("connection-count", HTMLElement),
};
const tables = {
  redis: new Table(byId("redis", HTMLTableElement)),
  slow: new Table(byId("slow", HTMLTableElement)),
  rooms: new Table(byId("rooms", HTMLTableElement)),
  connections: new Table(byId("connections", HTMLTableElement)),
};
const charts = {
  connections: new Chart("Connections"),
  accepts: new Chart("New connections per second"),
  messages_in: new Chart("Messages in per second"),
  messages_out: new Chart("Messages out per second"),
};
const rates = new Rates();
/** The rates of Redis of each process. @type {Map<number, Rates>} */
const redisRates = new Map();
const actions = new Actions(report);

/** Whether the status tells of the data, and not of an action. */
let isReporting = false;
let isPaused = false;

/** @param {string} text @param {boolean} isProblem */
function report(text, isProblem) {
  isReporting = true;
  page.status.textContent = isProblem ? "" : text;
  page.problem.textContent = isProblem ? text : "";
}

// --- Polling --------------------------------------------------------------------------------------

async function poll() {
  if (!isPaused && !document.hidden) await update({ isNextPoint: true });
  setTimeout(poll, INTERVAL_MS);
}

let requests = 0;

/** Show the state now; it is a point of the charts, too, at the interval of polling only. */
async function update({ isNextPoint = false } = {}) {
  const request = ++requests;
  const url = urlOf("inspect.json");
  if (page.user.value) url.searchParams.set("user", page.user.value);
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(10 * INTERVAL_MS) });
    const state = await response.json();
    // Another filter has been asked for meanwhile.
    if (request !== requests) return;
    if (!response.ok) throw new Error(state.description ?? state.title);
    if (isNextPoint) showRates(state.processes, performance.now());
    show(state.processes);
    setState(state.problem);
  } catch (error) {
    setState(`The service does not answer (${error instanceof Error ? error.message : error}); trying again.`);
  }
}

/** Show a problem with the data, or remove that of before. @param {string} problem */
function setState(problem) {
  if (problem !== "") isReporting = false;
  if (isReporting) return;
  // A text that stays is not written again: it would be announced again.
  if (page.problem.textContent !== problem) page.problem.textContent = problem;
  if (page.status.textContent !== "") page.status.textContent = "";
}

// --- The state ------------------------------------------------------------------------------------

/** @param {Process[]} processes */
function show(processes) {
  const isAlone = processes.length === 1;
  page.connectionCount.textContent = number(total(processes, "connection_count"));
  page.roomCount.textContent = number(total(processes, "room_count"));
  const clients = processes.flatMap((process) => process.connections.map((connection) => ({ process, connection })));
  clients.sort((one, other) => other.connection.backlog_bytes - one.connection.backlog_bytes);
  const slow = clients.filter(({ connection }) => connection.backlog_bytes > 0);
  tables.slow.show(slow.map(slowEntry), isAlone);
  tables.rooms.show(processes.flatMap(roomEntries), isAlone);
  tables.connections.show(clients.map(connectionEntry), isAlone);
}

/** @param {Process[]} processes @param {"connection_count" | "room_count"} name */
function total(processes, name) {
  return processes.reduce((sum, process) => sum + process[name], 0);
}

/** Show what has happened since the last call. @param {Process[]} processes @param {number} nowMs */
function showRates(processes, nowMs) {
  tables.redis.show(
    processes.flatMap((process) => redisEntry(process, nowMs)),
    processes.length === 1,
  );
  charts.connections.add(total(processes, "connection_count"));
  const found = rates.next(new Map(processes.map(({ pid, counts }) => [pid, counts ?? {}])), nowMs);
  if (found === null) return;
  for (const name of /** @type {const} */ (["accepts", "messages_in", "messages_out"])) charts[name].add(found[name] ?? 0);
}

/** @param {Process} process @param {number} nowMs @returns {import("./table.js").Entry[]} */
function redisEntry({ pid, redis }, nowMs) {
  if (redis === null) return [];
  const own = redisRates.get(pid) ?? new Rates();
  redisRates.set(pid, own);
  const { calls, call_seconds } = redis;
  const found = own.next(new Map([[pid, { calls, call_seconds }]]), nowMs) ?? { calls: 0, call_seconds: 0 };
  const mean = found.calls > 0 ? `${number((1000 * found.call_seconds) / found.calls)} ms` : "–";
  const state = redis.outage === "" ? "available" : `unavailable: ${redis.outage}`;
  return [{ key: `${pid}`, cells: [`${pid}`, state, duration(redis.unavailable_seconds), number(found.calls), mean] }];
}

/** @param {Client} client @returns {import("./table.js").Entry} */
function slowEntry({ process: { pid }, connection }) {
  const cells = [`${pid}`, userOf(connection), size(connection.backlog_bytes), duration(connection.seconds)];
  return { key: `${pid} ${connection.id}`, cells, actions: () => buttonsFor(connection) };
}

/** @param {Process} process @returns {import("./table.js").Entry[]} */
function roomEntries({ pid, rooms, connections }) {
  /** @type {Map<string, Set<string>>} */
  const members = new Map(rooms.map((room) => [room.name, new Set()]));
  for (const connection of connections) {
    for (const room of connection.rooms) members.get(room)?.add(userOf(connection));
  }
  return rooms.map(({ name, users, connections }) => {
    const found = [...(members.get(name) ?? [])].sort();
    const listed = found.slice(0, MAX_MEMBERS);
    if (users > listed.length) listed.push(`${number(users - listed.length)} more`);
    return { key: `${pid} ${name}`, cells: [`${pid}`, name, number(users), number(connections), listed] };
  });
}

/** @param {Client} client @returns {import("./table.js").Entry} */
function connectionEntry({ process: { pid }, connection }) {
  const more = connection.room_count - connection.rooms.length;
  const cells = [
    `${pid}`,
    userOf(connection),
    more > 0 ? [...connection.rooms, `${number(more)} more`] : connection.rooms,
    connection.route ?? "–",
    duration(connection.seconds),
    size(connection.backlog_bytes),
  ];
  return { key: `${pid} ${connection.id}`, cells, actions: () => buttonsFor(connection) };
}

/** @param {Connection} connection */
function userOf({ user }) {
  return user ?? "–";
}

/** @param {Connection} connection */
function buttonsFor({ user }) {
  return user === null ? [] : actions.buttonsFor(user);
}

page.charts.append(...Object.values(charts).map((chart) => chart.figure));
page.pause.addEventListener("click", () => {
  isPaused = !isPaused;
  page.pause.setAttribute("aria-pressed", String(isPaused));
});
page.user.addEventListener("input", () => void update());
poll();
