/**
 * Reactions: emojis below a message, each with the number of its users.
 *
 * The module adds its own controls. To remove the feature, delete the file, its test, the lines of `main.js` that name
 * it, and `resources/reactions.py` with the lines of `resources/past.py` that name it.
 */

import { button, element } from "../page.js";

/** @typedef {import("../realtime.js").RealtimeClient} RealtimeClient */
/** @typedef {import("../realtime.js").ServerMessages["serverReaction"]} ReactionChange */

/**
 * A reaction to a message. Each part has the revision of its latest change: changes may arrive in another order.
 *
 * @typedef {{ count: number, revision: number, isMine: boolean, mineRevision: number }} Reaction
 */

/**
 * @typedef {object} ReactionsParts
 * @property {import("./message-list.js").MessageList} list
 * @property {import("./scroller.js").Scroller} scroller
 * @property {import("./actions.js").MessageActions} actions
 * @property {import("./requests.js").Requests} requests
 * @property {import("./session.js").Session} session
 */

const CHOICE = new Map([
  ["👍", "Thumbs up"],
  ["❤️", "Heart"],
  ["😂", "Laughing"],
  ["🎉", "Party"],
  ["😮", "Surprised"],
  ["😢", "Sad"],
]);
const MAX_MESSAGES = 2_000;

export class Reactions {
  #list;
  #scroller;
  #actions;
  #requests;
  #session;
  /** Of each message by its id; the message with the oldest change first. @type {Map<string, Map<string, Reaction>>} */
  #reactions = new Map();
  /** The user whose reactions are marked in them. */
  #userId = "";

  /** @param {ReactionsParts} parts */
  constructor({ list, scroller, actions, requests, session }) {
    this.#list = list;
    this.#scroller = scroller;
    this.#actions = actions;
    this.#requests = requests;
    this.#session = session;
    actions.add({ label: "React", onClick: (entry) => this.#offer(entry) });
    list.onShow((entry, message) => {
      if ("reactions" in message) this.#load(message.messageId, message.revision, message.reactions ?? []);
      this.#show(entry, message.messageId);
    });
    list.onChange((messageId, text) => text === null && this.#reactions.delete(messageId));
  }

  /** @param {RealtimeClient} client */
  receive(client) {
    client.on("serverReaction", (change) => this.#change(change));
  }

  /** @param {string} messageId @param {number} revision @param {{ reaction: string, count: number, mine: boolean }[]} reactions */
  #load(messageId, revision, reactions) {
    const known = this.#of(messageId);
    for (const each of known.values()) {
      if (each.revision <= revision) each.count = 0;
      if (each.mineRevision <= revision) each.isMine = false;
    }
    for (const { reaction, count, mine } of reactions) {
      const each = known.get(reaction);
      if (!each) known.set(reaction, { count, revision, isMine: mine, mineRevision: revision });
      else {
        if (each.revision <= revision) each.count = count;
        if (each.mineRevision <= revision) each.isMine = mine;
      }
    }
  }

  /** @param {ReactionChange} change */
  #change({ messageId, reaction, userId, on, count, revision }) {
    const known = this.#of(messageId);
    const each = known.get(reaction) ?? { count: 0, revision: 0, isMine: false, mineRevision: 0 };
    if (revision > each.revision) Object.assign(each, { count, revision });
    if (userId === this.#userId && revision > each.mineRevision) {
      Object.assign(each, { isMine: on, mineRevision: revision });
    }
    known.set(reaction, each);
    const entry = this.#list.find(messageId);
    if (entry) this.#scroller.keepPlace(() => this.#show(entry, messageId));
  }

  /** @param {string} messageId */
  #of(messageId) {
    const { id = "" } = this.#session.user ?? {};
    if (id !== this.#userId) this.#reactions.clear();
    this.#userId = id;
    const known = this.#reactions.get(messageId) ?? new Map();
    this.#reactions.delete(messageId);
    this.#reactions.set(messageId, known);
    for (const oldest of this.#reactions.keys()) {
      if (this.#reactions.size <= MAX_MESSAGES) break;
      this.#reactions.delete(oldest);
    }
    return known;
  }

  /** @param {HTMLElement} entry @param {string} messageId */
  #show(entry, messageId) {
    const focused = entry.querySelector(".reaction:focus");
    const focusedReaction = focused instanceof HTMLElement ? focused.dataset.reaction : undefined;
    entry.querySelector(".reactions")?.remove();
    const shown = [...(this.#reactions.get(messageId) ?? [])].filter(([, { count }]) => count > 0);
    if (shown.length === 0) {
      if (focused) entry.focus();
      return;
    }
    const chips = shown.map(([reaction, each]) => this.#chip(messageId, reaction, each));
    const list = element("ul", "reactions", ...chips.map((chip) => element("li", "", chip)));
    list.ariaLabel = "Reactions";
    list.ariaLive = "off"; // Of many messages at once; a screen reader reads them with their message.
    entry.querySelector(".bubble")?.after(list);
    if (focused) (chips.find((chip) => chip.dataset.reaction === focusedReaction) ?? entry).focus();
  }

  /** @param {string} messageId @param {string} reaction @param {Reaction} state */
  #chip(messageId, reaction, { count, isMine }) {
    const chip = button("", "reaction", () => this.#react(messageId, reaction, !isMine));
    chip.append(element("bdi", "emoji", reaction), element("span", "reaction-count", count.toLocaleString()));
    chip.ariaLabel = `${CHOICE.get(reaction) ?? reaction}, ${count.toLocaleString()}`;
    chip.ariaPressed = String(isMine);
    chip.dataset.reaction = reaction;
    return chip;
  }

  /** @param {HTMLElement} entry */
  #offer(entry) {
    const { messageId = "" } = entry.dataset;
    const emojis = [...CHOICE].map(([reaction, name]) => {
      const isMine = this.#reactions.get(messageId)?.get(reaction)?.isMine ?? false;
      const node = button(reaction, "emoji action", () => this.#react(messageId, reaction, !isMine));
      node.ariaLabel = node.title = name;
      node.ariaPressed = String(isMine);
      return node;
    });
    this.#actions.offer("Choose a reaction", ...emojis);
    emojis[0]?.focus();
  }

  /** @param {string} messageId @param {string} reaction @param {boolean} on */
  #react(messageId, reaction, on) {
    this.#requests.run((client) => client.request("clientReact", { messageId, reaction, on }));
  }
}
