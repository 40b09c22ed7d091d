/** The users of a room as the chat page keeps them; `test_roster.py` passes the module's address. */

import assert from "node:assert/strict";
import test from "node:test";

const { Roster } = await import(process.env.ROSTER ?? "");

/** Names from one number to another. @param {number} first @param {number} last */
function names(first, last) {
  return Array.from({ length: last - first + 1 }, (_, index) => `user ${first + index}`);
}

/** A roster of the given users, of whom the last one is the page's own. @param {string[]} users @param {number} [count] */
function rosterOf(users, count = users.length) {
  const roster = new Roster();
  roster.replace({ users, you: users.at(-1), count });
  return roster;
}

/** @param {any} roster @param {string[]} expected @param {number} [count] */
function check(roster, expected, count = expected.length) {
  assert.deepEqual([...roster.names].sort(), [...expected].sort());
  assert.equal(roster.count, count);
}

test("joins and leaves change a complete list once each", () => {
  const roster = rosterOf(["Alice", "Bob"]);
  assert.equal(roster.set("Carol", true), true);
  assert.equal(roster.set("Carol", true), false);
  check(roster, ["Alice", "Bob", "Carol"]);
  assert.equal(roster.set("Alice", false), true);
  assert.equal(roster.set("Alice", false), false);
  check(roster, ["Bob", "Carol"]);
});

test("a user without a name is counted, too", () => {
  const large = rosterOf(names(1, 200), 300);
  assert.equal(large.set("Carol", true), true);
  check(large, names(1, 200), 301);
  assert.equal(large.set("Carol", false), true);
  assert.equal(large.set("user 1", false), true);
  check(large, names(2, 200), 299);
});

test("a batch has the number of users and the difference", () => {
  const roster = rosterOf(names(1, 200), 250);
  roster.change({ joined: ["Carol", "user 3"], left: ["user 1", "Dave"], count: 260 });
  check(roster, [...names(2, 200), "Carol"], 260);
});

test("a batch applied a second time changes nothing", () => {
  const roster = rosterOf(names(1, 100), 300);
  const change = { joined: ["Carol"], left: ["user 1"], count: 300 };
  roster.change(change);
  roster.change(change);
  check(roster, [...names(2, 100), "Carol"], 300);
});

test("a batch with users replaces the list", () => {
  const roster = rosterOf(names(1, 200), 250);
  roster.change({ joined: [], left: names(1, 200), moreLeft: 40, count: 10, users: names(191, 200) });
  check(roster, names(191, 200));
  assert.equal(roster.set("user 191", false), true);
  check(roster, names(192, 200));
});

test("the own user stays in the list, whatever a message from before the join says", () => {
  const roster = rosterOf([...names(1, 199), "Me"], 240);
  roster.change({ joined: [], left: ["Me"], count: 239 });
  assert.ok(roster.names.includes("Me"));
  roster.change({ joined: [], left: [], count: 150, users: names(1, 150) });
  check(roster, [...names(1, 150), "Me"], 151);
});

test("at most two hundred names are kept", () => {
  const roster = rosterOf([...names(1, 199), "Me"]);
  roster.change({ joined: names(300, 499), left: [], moreJoined: 1000, count: 1400 });
  check(roster, [...names(1, 199), "Me"], 1400);
  roster.change({ joined: [], left: [], count: 1400, users: names(1, 200) });
  check(roster, [...names(1, 199), "Me"], 1400);
});

test("a state without a number counts its names", () => {
  const roster = new Roster();
  roster.replace({ users: ["Alice", "Bob"], you: "Bob" });
  check(roster, ["Alice", "Bob"]);
  roster.clear();
  check(roster, []);
});
