/**
 * The actions on stored messages: one bar with buttons, which is at the message that the user points at, touches or
 * focuses. Arrow keys move the focus between messages, and Tab leads into the bar.
 */

import { button, byId, element } from "../page.js";

/**
 * @typedef {object} Action
 * @property {string} label
 * @property {(entry: HTMLElement) => boolean} [appliesTo] By default to all stored messages.
 * @property {(entry: HTMLElement) => void} onClick
 */

const STORED = "[data-message-id]";

export class MessageActions {
  #list;
  /** @type {{ node: HTMLElement, appliesTo: (entry: HTMLElement) => boolean }[]} */
  #actions = [];
  /** The message that has the bar. @type {HTMLElement | null} */
  #entry = null;
  /** The message that Tab reaches. @type {HTMLElement | null} */
  #reachable = null;
  /** What is shown in place of the buttons. @type {HTMLElement | null} */
  #choice = null;
  #buttons = element("div", "action-buttons");
  #bar = element("div", "actions", this.#buttons);

  /** @param {import("./message-list.js").MessageList} list */
  constructor(list) {
    this.#list = list;
    this.#bar.role = "group";
    this.#bar.ariaLabel = "Actions for this message";
    this.#bar.ariaLive = "off"; // It moves within a log, whose additions a screen reader reads out.
    list.onShow((entry, { messageId }) => {
      entry.tabIndex = -1;
      const isLater = !this.#reachable?.isConnected || messageId > String(this.#reachable.dataset.messageId);
      if (isLater && document.activeElement !== this.#reachable) this.#makeReachable(entry);
    });
    const node = byId("messages", HTMLElement);
    new MutationObserver(() => this.#replaceReachable()).observe(node, { childList: true });
    node.addEventListener("pointerover", ({ pointerType, target }) => {
      if (pointerType === "mouse" && this.#choice === null) this.#show(entryOf(target));
    });
    node.addEventListener("pointerleave", ({ pointerType }) => {
      // The pointer of a touch leaves before the click.
      const isUsed = this.#choice !== null || this.#entry?.matches(":focus-visible, :has(:focus-visible)");
      if (pointerType === "mouse" && !isUsed) this.#show(null);
    });
    node.addEventListener("click", ({ target }) => this.#show(entryOf(target)));
    node.addEventListener("focusin", ({ target }) => this.#show(entryOf(target)));
    node.addEventListener("focusout", ({ relatedTarget }) => {
      const isInside = relatedTarget instanceof Node && this.#entry?.contains(relatedTarget);
      if (!isInside && relatedTarget !== null) this.#show(null);
    });
    node.addEventListener("keydown", (event) => this.#receiveKey(event));
  }

  /** Add a button to the bar. @param {Action} action */
  add({ label, appliesTo = () => true, onClick }) {
    const node = button(label, "action", () => this.#entry && onClick(this.#entry));
    this.#actions.push({ node, appliesTo });
    this.#buttons.append(node);
  }

  /** Show a choice in place of the buttons, until one of its buttons, Escape or another message is chosen. @param {string} label @param {...(Node | string)} content */
  offer(label, ...content) {
    const choice = element("div", "action-buttons", ...content);
    choice.role = "group";
    choice.ariaLabel = label;
    this.#endChoice();
    this.#choice = choice;
    this.#buttons.hidden = true;
    this.#bar.append(choice);
    choice.addEventListener("click", ({ target }) => target instanceof HTMLButtonElement && this.close());
  }

  /** Show the buttons again; the focus returns to the message. */
  close() {
    const hadFocus = this.#bar.contains(document.activeElement);
    this.#endChoice();
    if (hadFocus) this.#entry?.focus();
  }

  #endChoice() {
    this.#choice?.remove();
    this.#choice = null;
    this.#buttons.hidden = false;
  }

  /** @param {HTMLElement | null} entry */
  #show(entry) {
    if (entry === this.#entry && this.#bar.isConnected === (entry !== null)) return;
    this.#endChoice();
    this.#entry = entry;
    if (entry === null) {
      this.#bar.remove();
      return;
    }
    for (const { node, appliesTo } of this.#actions) node.hidden = !appliesTo(entry);
    entry.append(this.#bar);
    this.#makeReachable(entry);
  }

  /** @param {HTMLElement} entry */
  #makeReachable(entry) {
    if (this.#reachable) this.#reachable.tabIndex = -1;
    this.#reachable = entry;
    entry.tabIndex = 0;
  }

  /** Where the message that Tab reaches is not shown any more, it reaches the last one. */
  #replaceReachable() {
    const last = this.#reachable?.isConnected ? undefined : this.#list.stored.at(-1);
    if (last) this.#makeReachable(last);
  }

  /** @param {KeyboardEvent} event */
  #receiveKey(event) {
    const { key, target } = event;
    if (key === "Escape" && this.#bar.contains(document.activeElement)) {
      event.stopPropagation();
      this.#endChoice();
      this.#entry?.focus();
    }
    const stored = this.#list.stored;
    const index = stored.findIndex((entry) => entry === target);
    if (index === -1 || event.altKey || event.ctrlKey || event.metaKey) return;
    const places = { ArrowUp: Math.max(index - 1, 0), ArrowDown: index + 1, Home: 0, End: stored.length - 1 };
    if (!(key in places)) return;
    event.preventDefault();
    stored[places[/** @type {keyof typeof places} */ (key)]]?.focus();
  }
}

/** @param {EventTarget | null} target @returns {HTMLElement | null} The stored message of an element. */
function entryOf(target) {
  const entry = target instanceof Element ? target.closest(STORED) : null;
  return entry instanceof HTMLElement ? entry : null;
}
