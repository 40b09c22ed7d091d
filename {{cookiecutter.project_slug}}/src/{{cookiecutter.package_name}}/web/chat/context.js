/** What the text in the composer is for, above its field: a reply to a message or the edit of one, until it is sent or cancelled. */

import { byId } from "../page.js";

/**
 * @typedef {object} Context
 * @property {(Node | string)[]} label
 * @property {string} excerpt Of the message.
 * @property {(text: string) => boolean} onSend Returns whether the text was accepted, which empties the field.
 * @property {() => void} [onEnd] It was sent, cancelled or replaced.
 */

export class ComposerContext {
  /** @type {Context | null} */
  #current = null;
  #onCancel;
  #bar = byId("context", HTMLElement);
  #label = byId("context-label", HTMLElement);
  #excerpt = byId("context-excerpt", HTMLElement);

  /** @param {() => void} onCancel The user has cancelled it. */
  constructor(onCancel) {
    this.#onCancel = onCancel;
    byId("context-cancel", HTMLButtonElement).addEventListener("click", () => this.#cancel());
    byId("composer", HTMLFormElement).addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.isComposing || this.#current === null) return;
      event.stopPropagation();
      this.#cancel();
    });
  }

  /** Begin a context; it ends another one. @param {Context} context */
  begin(context) {
    this.end();
    this.#current = context;
    this.#label.replaceChildren(...context.label);
    this.#excerpt.textContent = context.excerpt;
    this.#bar.hidden = false;
  }

  /** Send a text as the context says; null without one. @param {string} text @returns {boolean | null} Whether it was accepted. */
  send(text) {
    return this.#current?.onSend(text) ?? null;
  }

  end() {
    const ended = this.#current;
    this.#current = null;
    this.#bar.hidden = true;
    ended?.onEnd?.();
  }

  #cancel() {
    this.end();
    this.#onCancel();
  }
}
