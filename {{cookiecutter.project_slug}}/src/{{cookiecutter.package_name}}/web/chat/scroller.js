/** The scrolling of the conversation: at the bottom it follows the newest entry, elsewhere it keeps what is read in place. */

import { byId, setShown } from "../page.js";

/**
 * @typedef {object} ScrollerEvents
 * @property {() => void} onScroll
 * @property {() => void} onCaughtUp The user has asked for the newest messages.
 */

const AT_BOTTOM_PX = 48;
// Above `LOAD_ABOVE_PX` in `past.js`: what is removed there is not loaded again at once.
const FAR_PX = 2_000;

export class Scroller {
  #isAtBottom = true;
  /** The number of messages below the visible part, since the user has scrolled up. */
  #newerMessages = 0;
  #frame = byId("conversation", HTMLElement);
  #list = byId("messages", HTMLElement);
  #newer = byId("newer", HTMLButtonElement);
  #newerCount = byId("newer-count", HTMLElement);

  /** @param {ScrollerEvents} events */
  constructor(events) {
    this.#newer.addEventListener("click", () => {
      this.toBottom();
      this.#frame.focus();
      events.onCaughtUp();
    });
    this.#frame.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.#frame;
      this.#isAtBottom = scrollHeight - scrollTop - clientHeight < AT_BOTTOM_PX;
      if (this.#isAtBottom) this.#showNewer(0);
      events.onScroll();
    });
    new ResizeObserver(() => this.#isAtBottom && this.toBottom()).observe(this.#frame);
  }

  get isAtBottom() {
    return this.#isAtBottom;
  }

  /** Whether an entry is so far above the visible part that the user does not miss it. @param {Element} entry */
  isFarAbove(entry) {
    return entry.getBoundingClientRect().bottom < this.#frame.getBoundingClientRect().top - FAR_PX;
  }

  toBottom() {
    this.#frame.scrollTop = this.#frame.scrollHeight;
    this.#showNewer(0);
    this.#isAtBottom = true;
  }

  /** Count messages that are new below the visible part. @param {number} count */
  addNewer(count) {
    this.#showNewer(this.#newerMessages + count);
  }

  /** Change entries: the bottom stays at the bottom, and elsewhere the first visible entry that remains stays where it is. @param {() => void} change */
  keepPlace(change) {
    const { top, bottom } = this.#frame.getBoundingClientRect();
    /** @type {[Element, number][]} */
    const visible = [];
    for (const entry of this.#isAtBottom ? [] : this.#list.children) {
      const box = entry.getBoundingClientRect();
      if (box.top >= bottom) break;
      if (box.bottom > top) visible.push([entry, box.top]);
    }
    change();
    const [anchor, before] = visible.find(([entry]) => entry.isConnected) ?? [null, 0];
    if (this.#isAtBottom) this.toBottom();
    else if (anchor) this.#frame.scrollTop += anchor.getBoundingClientRect().top - before;
  }

  /** @param {number} count */
  #showNewer(count) {
    this.#newerMessages = count;
    this.#newerCount.textContent = `${count.toLocaleString()} new ${count === 1 ? "message" : "messages"}`;
    setShown(this.#newer, count > 0, this.#frame);
  }
}
