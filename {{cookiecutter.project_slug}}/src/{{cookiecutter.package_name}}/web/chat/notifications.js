/**
 * Notifications of the system when this user is mentioned (`@Name`) while the page is hidden.
 *
 * The module has its own control. To remove the feature, delete the file, its test, and the lines of `main.js`
 * that name it.
 */

import { button, byId, element } from "../page.js";
import { plainName, roomLabel } from "./elements.js";

/** @typedef {import("../realtime.js").ServerMessages["serverNewMessage"]} Message */

const WANTED_KEY = "chat.notifications";
const MIN_INTERVAL_MS = 5_000;
const MAX_BODY_CHARACTERS = 200;
const WORD = /[\p{L}\p{M}\p{N}_]/u;

export class Notifications {
  #session;
  /** @type {Notification | null} */
  #shown = null;
  #shownAtMs = -Infinity;
  #toggle = button("Notify me of mentions", "quiet", () => this.#change());
  #outcome = element("p", "hint");

  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.#session = session;
    if (!("Notification" in globalThis && isSecureContext)) return;
    this.#outcome.role = "status";
    byId("people", HTMLElement).after(element("div", "notifications", this.#toggle, this.#outcome));
    this.#show("");
    document.addEventListener("visibilitychange", () => document.hidden || this.#shown?.close());
  }

  /** @param {Message} message @param {string} room */
  receive({ user, userId, text }, room) {
    const own = this.#session.user;
    const isMention = own !== null && userId !== own.id && mentions(text, own.name);
    if (!isMention || !document.hidden || !isWanted() || Date.now() - this.#shownAtMs < MIN_INTERVAL_MS) return;
    this.#shown?.close();
    this.#shownAtMs = Date.now();
    const body = [...text].slice(0, MAX_BODY_CHARACTERS).join("");
    try {
      this.#shown = new Notification(`${plainName(user)} in ${plainName(roomLabel(room))}`, { body });
    } catch {
      return; // Browsers on phones have notifications of service workers only.
    }
    this.#shown.addEventListener("click", () => window.focus());
  }

  async #change() {
    const isWantedNow = !isWanted();
    // Browsers ask the user only after a click, such as the one on this button.
    const isAllowed = !isWantedNow || (await Notification.requestPermission()) === "granted";
    try {
      localStorage.setItem(WANTED_KEY, String(isWantedNow && isAllowed));
      this.#show(isAllowed ? "" : "The browser blocks notifications of this page.");
    } catch {
      this.#show("The browser does not keep this setting.");
    }
  }

  /** @param {string} outcome */
  #show(outcome) {
    this.#toggle.ariaPressed = String(isWanted());
    this.#outcome.textContent = outcome;
  }
}

function isWanted() {
  try {
    return Notification.permission === "granted" && localStorage.getItem(WANTED_KEY) === "true";
  } catch {
    return false; // Storage is forbidden here.
  }
}

/** Whether a text has the name after an @, as words of their own. @param {string} text @param {string} name */
function mentions(text, name) {
  const [inText = "", wanted = ""] = [text, `@${name}`].map((each) => each.normalize("NFKC").toLowerCase());
  for (let at = inText.indexOf(wanted); at !== -1; at = inText.indexOf(wanted, at + 1)) {
    if (!WORD.test(inText.charAt(at - 1)) && !WORD.test(inText.charAt(at + wanted.length))) return true;
  }
  return false;
}
