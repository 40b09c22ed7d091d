/** The panel with rooms and people. Narrow screens show it over the conversation, on demand. */

import { byId } from "../page.js";

export class SidePanel {
  #panel = byId("side", HTMLElement);
  #toggle = byId("side-toggle", HTMLButtonElement);

  constructor() {
    this.#toggle.addEventListener("click", () => {
      this.show(!this.#isOpen);
      if (this.#isOpen) this.#panel.focus(); // It precedes the button: the next Tab leads into it.
    });
    byId("conversation", HTMLElement).addEventListener("click", () => this.show(false));
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.#isOpen) return;
      this.show(false);
      this.#toggle.focus();
    });
  }

  /** @param {boolean} open */
  show(open) {
    this.#panel.classList.toggle("open", open);
    this.#toggle.setAttribute("aria-expanded", String(open));
  }

  get #isOpen() {
    return this.#panel.classList.contains("open");
  }
}
