/**
 * Replies: a message that quotes another one.
 *
 * The module adds its own controls. To remove the feature, delete the file, its test, the lines of `main.js` that name
 * it, and `resources/replies.py` with the lines of `resources/past.py` that name it or its `with_quotes`.
 */

import { button, element } from "../page.js";

/** @typedef {import("./pending.js").TextRequest} TextRequest */

/**
 * @typedef {object} RepliesParts
 * @property {import("./message-list.js").MessageList} list
 * @property {import("./actions.js").MessageActions} actions
 * @property {import("./context.js").ComposerContext} context
 * @property {import("./composer.js").Composer} composer
 * @property {import("./session.js").Session} session
 * @property {import("./names.js").Names} names
 * @property {(text: string, request: TextRequest) => boolean} onSend Returns whether the message was accepted.
 */

const DELETED = "This message was deleted.";
const MAX_EXCERPT_CHARACTERS = 200;
const MARKED_MS = 2_000;

export class Replies {
  #parts;

  /** @param {RepliesParts} parts */
  constructor(parts) {
    this.#parts = parts;
    parts.actions.add({ label: "Reply", onClick: (entry) => this.#begin(entry) });
    parts.list.onShow((entry, { replyTo }) => replyTo && this.#quote(entry, replyTo));
    parts.list.onChange((messageId, text) => {
      for (const excerpt of document.querySelectorAll(`.quote[data-quoted-id="${CSS.escape(messageId)}"] .excerpt`)) {
        excerpt.textContent = text === null ? DELETED : excerptOf(text);
      }
    });
  }

  /** @param {HTMLElement} entry */
  #begin(entry) {
    const { list, context, composer, onSend } = this.#parts;
    const { messageId = "" } = entry.dataset;
    context.begin({
      label: ["Replying to ", this.#nameNode(entry)],
      excerpt: excerptOf(list.textOf(entry)),
      onSend(text) {
        const isAccepted = onSend(text, { type: "clientSendReply", payload: { messageId, text } });
        if (isAccepted) context.end();
        return isAccepted;
      },
    });
    composer.write();
  }

  /** @param {HTMLElement} entry */
  #nameNode(entry) {
    if (entry.matches(".own")) return "yourself";
    const { user = "", userId = "" } = /** @type {HTMLElement | null} */ (entry.querySelector(".author bdi"))?.dataset ?? {};
    return this.#parts.names.shortNode({ user, userId });
  }

  /** @param {HTMLElement} entry @param {{ messageId: string, user: string, userId: string, text?: string }} replyTo */
  #quote(entry, { messageId, user, userId, text }) {
    if (entry.querySelector(".quote")) return;
    const { list, names, session, composer } = this.#parts;
    const author = userId === session.user?.id ? "You" : names.shortNode({ user, userId });
    const shown = list.find(messageId);
    // A live message quotes no text: the page has it, or shows the name only.
    const excerpt = element("span", "excerpt", shown ? excerptOf(list.textOf(shown)) : (text ?? ""));
    const quote = button("", "quote", () => {
      const found = list.find(messageId);
      if (found) this.#show(found);
      else composer.showError("That message is not loaded: scroll up to load earlier messages.");
    });
    quote.append(element("span", "visually-hidden", "In reply to "), element("span", "quote-author", author), " ", excerpt);
    quote.dataset.quotedId = messageId;
    entry.querySelector(".bubble > .text")?.before(quote);
  }

  /** @param {HTMLElement} entry */
  #show(entry) {
    entry.focus({ preventScroll: true });
    entry.scrollIntoView({ block: "center" });
    entry.classList.add("marked");
    setTimeout(() => entry.classList.remove("marked"), MARKED_MS);
  }
}

/** @param {string} text */
function excerptOf(text) {
  return [...text].slice(0, MAX_EXCERPT_CHARACTERS).join("");
}
