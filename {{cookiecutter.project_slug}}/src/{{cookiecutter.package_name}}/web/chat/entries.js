/** Entries of the conversation: messages, and what separates them. */

import { element } from "../page.js";
import { avatar, dayNode, timeNode } from "./elements.js";
import { textNodes } from "./text.js";

/** @typedef {import("./names.js").Person} Person */

const GROUP_WITHIN_MS = 5 * 60_000;

/** @param {Person} person @param {string} text @param {Node | string} name @param {boolean} isOwn @param {number} atMs */
export function messageEntry({ user, userId }, text, name, isOwn, atMs) {
  const content = element("p", "text");
  content.dir = "auto";
  const bubble = element("div", "bubble", element("p", "author", name), content, element("span", "meta", timeNode(atMs)));
  const entry = element("li", isOwn ? "message own" : "message", avatar(user), bubble);
  entry.dataset.userId = userId;
  entry.dataset.atMs = String(atMs);
  setText(entry, text, false);
  return entry;
}

/** @param {Element} entry A message. @param {string} text @param {boolean} isEdited */
export function setText(entry, text, isEdited) {
  entry.querySelector(".bubble > .text")?.replaceChildren(...textNodes(text));
  if (!isEdited || entry.querySelector(".edited")) return;
  entry.querySelector(".bubble > .meta")?.prepend(element("span", "edited", "edited"), " ");
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
  if (isOtherDay) {
    const line = element("li", "day", dayNode(at.getTime()));
    line.ariaLive = "off"; // A screen reader reads out the message only.
    entry.before(line);
  }
  const isContinued = userId !== undefined && userId === lastData?.userId && at.getTime() - lastAt.getTime() < GROUP_WITHIN_MS;
  entry.classList.toggle("continued", isContinued && !isOtherDay);
}
