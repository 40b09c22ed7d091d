/** The form in which the user writes a message. */

import { byId } from "../page.js";
import { Drafts } from "./drafts.js";
import { onSubmit } from "./elements.js";

/**
 * @typedef {object} ComposerEvents
 * @property {(text: string) => boolean} onSend Returns whether the message was accepted.
 * @property {(text: string) => void} onEdit
 * @property {() => void} onStop The user has left the field, or sent the message.
 */

const MAX_TEXT_CHARACTERS = 2_000;
const COUNTER_FROM_CHARACTERS = 1_800;

export class Composer {
  #events;
  #drafts = new Drafts();
  /** The user and the room of the text in the field; null without a user. @type {{ userId: string, room: string } | null} */
  #owner = null;
  /** Whether the field has the text of an earlier message, in place of the draft. */
  #isEdit = false;
  #field = byId("message", HTMLTextAreaElement);
  #error = byId("composer-error", HTMLElement);
  #counter = byId("counter", HTMLElement);

  /** @param {ComposerEvents} events */
  constructor(events) {
    this.#events = events;
    onSubmit(byId("composer", HTMLFormElement), () => this.#submit());
    this.#field.addEventListener("input", () => {
      this.#update();
      events.onEdit(this.#field.value);
    });
    this.#field.addEventListener("blur", events.onStop);
    addEventListener("pagehide", () => this.#keepDraft());
    // A phone ends a page in the background without another event.
    document.addEventListener("visibilitychange", () => document.hidden && this.#keepDraft());
    this.#field.addEventListener("keydown", (event) => {
      // While an input method composes, Enter chooses a character.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#submit();
    });
    byId("skip-link", HTMLAnchorElement).addEventListener("click", (event) => {
      event.preventDefault(); // The hash is the room's name.
      this.#field.focus();
    });
  }

  /** Show the user's draft for a room. @param {string} userId @param {string} room */
  open(userId, room) {
    if (this.#owner?.userId === userId && this.#owner.room === room) return;
    this.#keepDraft();
    this.#owner = { userId, room };
    this.#field.value = this.#drafts.get(userId, room);
    this.#update();
  }

  /** Forget the drafts of a user who has signed out. @param {string} userId */
  signOut(userId) {
    this.#drafts.forget(userId);
    this.#owner = null;
    this.#field.value = "";
    this.#update();
  }

  /** Show the text of an earlier message, in place of the draft. @param {string} text */
  beginEdit(text) {
    this.#keepDraft();
    this.#isEdit = true;
    this.#field.value = text;
    this.#update();
    this.write();
  }

  /** Show the draft again. */
  endEdit() {
    this.#isEdit = false;
    this.#field.value = this.#owner ? this.#drafts.get(this.#owner.userId, this.#owner.room) : "";
    this.#update();
  }

  /** Focus the field, as the user has asked to write something. */
  write() {
    this.#field.focus();
  }

  /** Focus the field, except on touch screens, where a keyboard would cover the room. */
  focus() {
    if (matchMedia("(hover: hover)").matches) this.#field.focus();
  }

  /** @param {string} problem */
  showError(problem) {
    this.#error.textContent = problem;
  }

  #keepDraft() {
    if (this.#owner && !this.#isEdit) this.#drafts.set(this.#owner.userId, this.#owner.room, this.#field.value);
  }

  #submit() {
    const text = this.#field.value.trimEnd();
    if (text.trim() === "") return;
    const excessCharacters = [...text].length - MAX_TEXT_CHARACTERS;
    if (excessCharacters > 0) {
      this.showError(`This message is too long by ${excessCharacters.toLocaleString()} characters.`);
    } else if (this.#events.onSend(text)) {
      this.#field.value = "";
      this.#update();
      this.#events.onStop();
    }
  }

  #update() {
    const length = [...this.#field.value].length;
    const show = length >= COUNTER_FROM_CHARACTERS;
    this.#counter.textContent = show ? `${length.toLocaleString()} of ${MAX_TEXT_CHARACTERS.toLocaleString()}` : "";
    this.showError("");
    if (!CSS.supports("field-sizing", "content")) {
      this.#field.style.height = "auto";
      this.#field.style.height = `${this.#field.scrollHeight}px`;
    }
  }
}
