/** The current room, the list of rooms (of the server, and entered recently), and the URL's hash, which names a room. */

import { byId, element } from "../page.js";
import { nameNode, onSubmit, roomLabel, shortName, showProblem } from "./elements.js";

/** @typedef {import("../realtime.js").ServerMessages["serverRooms"]["rooms"][number]} ServerRoom */

const DEFAULT_ROOM = "general";
const MAX_NAME_BYTES = 200;
const MAX_RECENT_ROOMS = 8;
const MAX_UNREAD = 100; // The server counts no further.
// Control, private-use and format characters, except the joiners of emoji and of some scripts.
const INVISIBLE = /[\p{Cc}\p{Co}\p{Cs}\p{Zl}\p{Zp}]|(?![\u200c\u200d])\p{Cf}/u;
const RECENT_ROOMS_KEY = "chat.recentRooms";

export class Rooms {
  #side;
  #onSelect;
  #current = "";
  /** The rooms of the server by their labels. @type {Map<string, ServerRoom>} */
  #ofServer = new Map();
  #field = byId("room-name", HTMLInputElement);
  #fieldError = byId("room-error", HTMLElement);
  #list = byId("rooms", HTMLElement);
  #title = byId("room-title", HTMLElement);

  /**
   * @param {import("./side.js").SidePanel} side
   * @param {(name: string) => void} onSelect Called with each valid room that the hash selects.
   */
  constructor(side, onSelect) {
    this.#side = side;
    this.#onSelect = onSelect;
    onSubmit(byId("room-form", HTMLFormElement), () => this.#submit());
    this.#field.addEventListener("input", () => showProblem(this.#field, this.#fieldError, ""));
  }

  /** The room that was entered last; empty before the first one. */
  get current() {
    return this.#current;
  }

  /** Show in the sign-in form which room follows. */
  showSelected() {
    const name = shortName(roomLabel(roomFromHash() || DEFAULT_ROOM));
    for (const place of document.querySelectorAll(".sign-in-room")) place.textContent = name;
  }

  /** Select the room in the hash; where there is no valid one, select another room and correct the hash. */
  selectFromHash() {
    let name = roomFromHash();
    const problem = location.hash.length > 1 ? problemOfName(name) : "";
    showProblem(this.#field, this.#fieldError, problem);
    if (problem || name === "") name = this.#current || recentRooms()[0] || DEFAULT_ROOM;
    history.replaceState(null, "", hashOf(name));
    this.#onSelect(name);
    if (problem) this.#side.show(true);
  }

  /** @param {string} name */
  setCurrent(name) {
    this.#current = name;
    this.#title.replaceChildren(nameNode(roomLabel(name)));
    this.#showList();
    this.#list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
    this.#side.show(false);
  }

  /** Add the current room to the recent ones. */
  remember() {
    try {
      const names = withoutOldInvitations([this.#current, ...recentRooms()]);
      localStorage.setItem(RECENT_ROOMS_KEY, JSON.stringify(names.slice(0, MAX_RECENT_ROOMS)));
    } catch {
      // Storage is forbidden or full: the list of rooms is a convenience.
    }
    this.#showList();
  }

  /** Show the rooms of the server, too. @param {ServerRoom[]} rooms */
  showOfServer(rooms) {
    this.#ofServer = new Map(rooms.map((each) => [roomLabel(each.room), each]));
    this.#showList();
  }

  #submit() {
    const name = this.#field.value.trim().normalize("NFC");
    const problem = problemOfName(name);
    showProblem(this.#field, this.#fieldError, problem);
    if (problem) return;
    this.#field.value = "";
    if (name === this.#current) this.#side.show(false);
    else location.hash = hashOf(name);
  }

  #showList() {
    const ofServer = [...this.#ofServer.values()].map(({ room }) => room);
    const names = withoutOldInvitations([this.#current, ...recentRooms(), ...ofServer]).sort((a, b) => a.localeCompare(b));
    const links = [...this.#list.querySelectorAll("a")];
    if (names.map(hashOf).join() !== links.map((link) => link.getAttribute("href")).join()) {
      const focused = links.find((link) => link === document.activeElement)?.getAttribute("href");
      this.#list.replaceChildren(...names.map((name) => element("li", "", roomLink(name))));
      if (focused) [...this.#list.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
    }
    for (const [index, link] of this.#list.querySelectorAll("a").entries()) this.#showState(link, names[index] ?? "");
  }

  /** @param {HTMLAnchorElement} link @param {string} name */
  #showState(link, name) {
    const isCurrent = name === this.#current;
    const { users = 0, unread = 0 } = isCurrent ? {} : (this.#ofServer.get(roomLabel(name)) ?? {});
    if (isCurrent) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    link.querySelector(".here")?.replaceChildren(...(users > 0 ? [`${users.toLocaleString()} here`] : []));
    link.querySelector(".unread")?.replaceChildren(...(unread > 0 ? unreadNodes(unread) : []));
  }
}

/** @param {string} name */
function roomLink(name) {
  const link = element("a", "", nameNode(roomLabel(name)), " ", element("span", "hint here"), " ", element("span", "unread"));
  link.href = hashOf(name);
  return link;
}

/** @param {number} unread */
function unreadNodes(unread) {
  const isMany = unread >= MAX_UNREAD;
  const label = isMany ? `${MAX_UNREAD} or more unread messages` : `${unread} unread ${unread === 1 ? "message" : "messages"}`;
  const shown = element("span", "", isMany ? `${MAX_UNREAD - 1}+` : String(unread));
  shown.ariaHidden = "true";
  return [shown, element("span", "visually-hidden", label)];
}

function roomFromHash() {
  try {
    return decodeURIComponent(location.hash.slice(1)).trim().normalize("NFC");
  } catch {
    return ""; // A stray % sign.
  }
}

/** @param {string} name */
function hashOf(name) {
  return `#${encodeURIComponent(name)}`;
}

/**
 * Return a sentence about an invalid name, or an empty string. The server's check is authoritative.
 *
 * @param {string} name
 */
function problemOfName(name) {
  if (name === "") return "Please enter the name of a room.";
  if (INVISIBLE.test(name)) return "A room's name cannot contain invisible characters.";
  // The browser resolves a path segment of dots; a slash starts another segment.
  if (name === "." || name === ".." || name.includes("/")) return "A room's name cannot be dots or contain a slash.";
  if (new TextEncoder().encode(name).length > MAX_NAME_BYTES) return "This name is too long for a room.";
  return "";
}

/** Return each room once, with its latest invitation. @param {string[]} names Most recent first. */
function withoutOldInvitations(names) {
  const labels = names.map(roomLabel);
  return names.filter((_, index) => labels.indexOf(labels[index] ?? "") === index);
}

/** @returns {string[]} Most recent first. */
function recentRooms() {
  try {
    const names = JSON.parse(localStorage.getItem(RECENT_ROOMS_KEY) ?? "[]");
    return names.filter((/** @type {unknown} */ name) => typeof name === "string" && !problemOfName(name));
  } catch {
    return []; // Storage is forbidden here, or holds something else.
  }
}
