/** The users of a room as the chat page keeps them; `test_roster.py` passes the module's address. */

import assert from "node:assert/strict";
import test from "node:test";

const { Roster } = await import(process.env.ROSTER ?? "");

/** Ids from one number to another. @param {number} first @param {number} last */
function ids(first, last) {
  return Array.from({ length: last - first + 1 }, (_, index) => `user ${first + index}`);
}

/** The users with these ids, who all have one name. @param {string[]} userIds */
function people(...userIds) {
  return userIds.map((userId) => ({ user: "Sam", userId }));
}

/** A roster of the users with these ids, of whom the last one is the page's own. @param {string[]} userIds @param {number} [count] */
function rosterOf(userIds, count = userIds.length) {
  const roster = new Roster();
  const users = people(...userIds);
  roster.replace({ users, you: users.at(-1), count });
  return roster;
}

/** @param {any} roster @param {string[]} expected Ids. @param {number} [count] */
function check(roster, expected, count = expected.length) {
  assert.deepEqual(idsOf(roster), [...expected].sort());
  assert.equal(roster.count, count);
}

/** @param {any} roster @returns {string[]} */
function idsOf(roster) {
  return roster.users.map((/** @type {Record<"userId", string>} */ { userId }) => userId).sort();
}

/** Change one user's presence. @param {any} roster @param {string} userId @param {boolean} isPresent */
function set(roster, userId, isPresent) {
  return roster.set(...people(userId), isPresent);
}

test("joins and leaves change a complete list once each", () => {
  const roster = rosterOf(["Alice", "Bob"]);
  assert.equal(set(roster, "Carol", true), true);
  assert.equal(set(roster, "Carol", true), false);
  check(roster, ["Alice", "Bob", "Carol"]);
  assert.equal(set(roster, "Alice", false), true);
  assert.equal(set(roster, "Alice", false), false);
  check(roster, ["Bob", "Carol"]);
});

test("a user outside the list is counted, too", () => {
  const large = rosterOf(ids(1, 200), 300);
  assert.equal(set(large, "Carol", true), true);
  check(large, ids(1, 200), 301);
  assert.equal(set(large, "Carol", false), true);
  assert.equal(set(large, "user 1", false), true);
  check(large, ids(2, 200), 299);
});

test("a batch has the number of users and the difference", () => {
  const roster = rosterOf(ids(1, 200), 250);
  roster.change({ joined: people("Carol", "user 3"), left: people("user 1", "Dave"), count: 260 });
  check(roster, [...ids(2, 200), "Carol"], 260);
});

test("a batch applied a second time changes nothing", () => {
  const roster = rosterOf(ids(1, 100), 300);
  const change = { joined: people("Carol"), left: people("user 1"), count: 300 };
  roster.change(change);
  roster.change(change);
  check(roster, [...ids(2, 100), "Carol"], 300);
});

test("a batch with users replaces the list", () => {
  const roster = rosterOf(ids(1, 200), 250);
  roster.change({ joined: [], left: people(...ids(1, 200)), moreLeft: 40, count: 10, users: people(...ids(191, 200)) });
  check(roster, ids(191, 200));
  assert.equal(set(roster, "user 191", false), true);
  check(roster, ids(192, 200));
});

test("the own user stays in the list, whatever a message from before the join says", () => {
  const roster = rosterOf([...ids(1, 199), "Me"], 240);
  roster.change({ joined: [], left: people("Me"), count: 239 });
  assert.ok(idsOf(roster).includes("Me"));
  roster.change({ joined: [], left: [], count: 150, users: people(...ids(1, 150)) });
  check(roster, [...ids(1, 150), "Me"], 151);
});

test("at most two hundred users are kept", () => {
  const roster = rosterOf([...ids(1, 199), "Me"]);
  roster.change({ joined: people(...ids(300, 499)), left: [], moreJoined: 1000, count: 1400 });
  check(roster, [...ids(1, 199), "Me"], 1400);
  roster.change({ joined: [], left: [], count: 1400, users: people(...ids(1, 200)) });
  check(roster, [...ids(1, 199), "Me"], 1400);
});

test("a state without a number counts its users", () => {
  const roster = new Roster();
  const users = people("Alice", "Bob");
  roster.replace({ users, you: users[1] });
  check(roster, ["Alice", "Bob"]);
  roster.clear();
  check(roster, []);
});

test("a user who returns with another name is one user", () => {
  const roster = rosterOf(["Alice", "Bob"]);
  roster.change({ joined: [{ user: "Robert", userId: "Bob" }], left: [], count: 2 });
  check(roster, ["Alice", "Bob"]);
  assert.equal(roster.users.find((/** @type {any} */ { userId }) => userId === "Bob").user, "Robert");
});
