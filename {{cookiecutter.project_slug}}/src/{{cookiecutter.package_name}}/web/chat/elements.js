/**
 * Elements that several parts of the chat show.
 *
 * SECURITY: user text reaches the page as text nodes only, never as markup.
 */

import { element } from "../page.js";

const AVATAR_TONES = 12;
const MAX_SHORT_CHARACTERS = 40;

// Hebrew, Arabic and the other scripts that are written from right to left, and Arabic digits.
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

const INVITATION = /^(private-[^~]*)~.*$/s;
const TIMESTAMP = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/g;

const timeFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const longTimeFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "short" });
const dayFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "full" });
const fullTimeFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

/**
 * A name, isolated so that right-to-left text does not reorder the sentence around it.
 *
 * @param {string} name
 */
export function nameNode(name) {
  return element("bdi", "", name);
}

/** A name within a sentence: isolated and shortened. @param {string} name */
export function shortNameNode(name) {
  return nameNode(shortName(name));
}

/** @param {string} name */
export function shortName(name) {
  const characters = [...name];
  if (characters.length <= MAX_SHORT_CHARACTERS) return name;
  return `${characters.slice(0, MAX_SHORT_CHARACTERS - 1).join("")}…`;
}

/** The name of a room to show: without the code of an invitation, which is a part of the link. @param {string} room */
export function roomLabel(room) {
  return room.replace(INVITATION, "$1");
}

/** A name for plain text, such as the page's title: shortened, and isolated if necessary. @param {string} name */
export function plainName(name) {
  const short = shortName(name);
  return RIGHT_TO_LEFT.test(short) ? `\u2068${short}\u2069` : short;
}

/** Return a text of the server in which points in time, such as `2026-11-26T23:00:00Z`, are local ones. @param {string} text */
export function withLocalTimes(text) {
  return text.replace(TIMESTAMP, (found) => longTimeFormat.format(new Date(found)));
}

/** @param {number} [atMs] As in `Date.now()`, by default now. */
export function timeNode(atMs = Date.now()) {
  const at = new Date(atMs);
  const time = element("time", "", timeFormat.format(at));
  time.dateTime = at.toISOString();
  time.title = fullTimeFormat.format(at);
  return time;
}

/** The day of a time, for a line between messages of different days. @param {number} atMs As in `Date.now()`. */
export function dayNode(atMs) {
  const at = new Date(atMs);
  const day = element("time", "", dayFormat.format(at));
  day.dateTime = [at.getFullYear(), at.getMonth() + 1, at.getDate()].map((part) => String(part).padStart(2, "0")).join("-");
  return day;
}

/** @param {string} name */
export function avatar(name) {
  const characters = [...name];
  const sum = characters.reduce((total, character) => (total * 31 + (character.codePointAt(0) ?? 0)) % 9973, 7);
  const tone = sum % AVATAR_TONES;
  const node = element("span", `avatar tone-${tone}`, (characters[0] ?? "?").toUpperCase());
  node.setAttribute("aria-hidden", "true");
  return node;
}

/**
 * Show a validation error beside its field; an empty text clears it.
 *
 * @param {HTMLInputElement} field
 * @param {HTMLElement} place
 * @param {string} problem
 */
export function showProblem(field, place, problem) {
  place.textContent = problem;
  if (problem) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
}

/**
 * Call `action` in place of submitting the form.
 *
 * @param {HTMLFormElement} form
 * @param {() => void} action
 */
export function onSubmit(form, action) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    action();
  });
}
