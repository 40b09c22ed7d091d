/** The hint in a room where nobody else is and nothing has been said: the link of the room can be copied. */

import { byId, setShown } from "../page.js";

export class InviteHint {
  #hint = byId("invite", HTMLElement);
  #outcome = byId("invite-outcome", HTMLElement);

  constructor() {
    byId("invite-copy", HTMLButtonElement).addEventListener("click", () => this.#copy());
  }

  /** @param {boolean} isShown */
  show(isShown) {
    if (this.#hint.hidden !== isShown) return;
    setShown(this.#hint, isShown, byId("conversation", HTMLElement));
    this.#outcome.textContent = "";
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(location.href);
      this.#outcome.textContent = "Copied.";
    } catch {
      // Without HTTPS, or forbidden by the browser's settings.
      this.#outcome.textContent = "The browser does not allow it: copy the address of this page.";
    }
  }
}
