/** Entries of the conversation: messages, and what separates them. */

import { element } from "../page.js";
import { avatar, dayNode, timeNode } from "./elements.js";
import { textNodes } from "./text.js";

/** @typedef {import("./names.js").Person} Person */

const GROUP_WITHIN_MS = 5 * 60_000;

/** @param {Person} person @param {string} text @param {Node | string} name @param {boolean} isOwn @param {number} atMs */
export function messageEntry({ user, userId }, text, name, isOwn, atMs) {
  const author = element("p", "author", name);
  const content = element("p", "text", ...textNodes(text));
  content.dir = "auto";
  const bubble = element("div", "bubble", author, content, element("span", "meta", timeNode(atMs)));
  const entry = element("li", isOwn ? "message own" : "message", avatar(user), bubble);
  entry.dataset.userId = userId;
  entry.dataset.atMs = String(atMs);
  return entry;
}

/**
 * Separate an entry from the one before it: by a line if it is of another day, and by no name if its author continues.
 *
 * @param {Element | null} last
 * @param {Element} entry
 */
export function separate(last, entry) {
  if (!(entry instanceof HTMLElement)) return;
  const [lastData, { userId, atMs }] = [last instanceof HTMLElement ? last.dataset : null, entry.dataset];
  const [lastAt, at] = [lastData ? new Date(Number(lastData.atMs)) : new Date(), new Date(Number(atMs))];
  const isOtherDay = at.toDateString() !== lastAt.toDateString();
  if (isOtherDay) entry.before(element("li", "day", dayNode(at.getTime())));
  const isContinued = userId !== undefined && userId === lastData?.userId && at.getTime() - lastAt.getTime() < GROUP_WITHIN_MS;
  entry.classList.toggle("continued", isContinued && !isOtherDay);
}
