/** Editing and deleting one's own messages. */

import { button, byId } from "../page.js";

/** @typedef {import("../realtime.js").RealtimeClient} RealtimeClient */

/**
 * @typedef {object} EditingParts
 * @property {import("./message-list.js").MessageList} list
 * @property {import("./actions.js").MessageActions} actions
 * @property {import("./context.js").ComposerContext} context
 * @property {import("./composer.js").Composer} composer
 * @property {import("./requests.js").Requests} requests
 */

export class Editing {
  #list;
  #actions;
  #context;
  #composer;
  #requests;
  #field = byId("message", HTMLTextAreaElement);
  /** The id of the message that is edited. */
  #messageId = "";

  /** @param {EditingParts} parts */
  constructor({ list, actions, context, composer, requests }) {
    this.#list = list;
    this.#actions = actions;
    this.#context = context;
    this.#composer = composer;
    this.#requests = requests;
    const appliesTo = (/** @type {HTMLElement} */ entry) => entry.matches(".own");
    actions.add({ label: "Edit", appliesTo, onClick: (entry) => this.#edit(entry) });
    actions.add({ label: "Delete", appliesTo, onClick: (entry) => this.#ask(entry) });
    list.onChange((messageId, text) => {
      if (text !== null || messageId !== this.#messageId) return;
      context.end();
      composer.showError("The message that you were editing has been deleted.");
    });
    this.#field.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowUp" || this.#field.value !== "" || event.isComposing) return;
      const last = list.stored.filter(appliesTo).at(-1);
      if (last === undefined) return;
      event.preventDefault();
      this.#edit(last);
    });
  }

  /** @param {RealtimeClient} client */
  receive(client) {
    client.on("serverMessageEdited", ({ messageId, text, revision }) => this.#list.edit(messageId, text, revision));
    client.on("serverMessageDeleted", ({ messageId, revision }) => this.#list.delete(messageId, revision));
  }

  /** @param {HTMLElement} entry */
  #edit(entry) {
    const [messageId, before] = [entry.dataset.messageId ?? "", this.#list.textOf(entry)];
    this.#context.begin({
      label: ["Editing your message"],
      excerpt: before,
      onSend: (text) => this.#save(messageId, before, text),
      onEnd: () => {
        this.#messageId = "";
        this.#composer.endEdit();
      },
    });
    this.#messageId = messageId;
    this.#composer.beginEdit(before);
  }

  /** @param {string} messageId @param {string} before @param {string} text */
  #save(messageId, before, text) {
    if (text === before) this.#context.end();
    else this.#request(messageId, text);
    return false; // The text stays in the field until the server has it.
  }

  /** @param {string} messageId @param {string} text */
  async #request(messageId, text) {
    if (this.#field.readOnly) return;
    this.#field.readOnly = true;
    const isDone = await this.#requests.run((client) => client.request("clientEditMessage", { messageId, text }));
    this.#field.readOnly = false;
    if (isDone && messageId === this.#messageId) this.#context.end();
  }

  /** @param {HTMLElement} entry */
  #ask(entry) {
    const messageId = entry.dataset.messageId ?? "";
    const keep = button("No", "action", () => {});
    const remove = button("Yes", "action danger", () => this.#requests.run((client) => client.request("clientDeleteMessage", { messageId })));
    this.#actions.offer("Delete this message?", "Delete?", remove, keep);
    keep.focus();
  }
}
