/** Events per second, from the numbers of events at two times. */

/** @typedef {Record<string, number>} Counts The numbers of events since the start of a process. */

export class Rates {
  /** The counts of each process at the last call. @type {Map<number, Counts>} */
  #before = new Map();
  #beforeMs = 0;

  /**
   * Return the events per second since the last call, of all processes together.
   *
   * A process that was not there at the last call has no rate yet. The first call returns `null`.
   *
   * @param {Map<number, Counts>} counts The counts of each process, by its id.
   * @param {number} nowMs
   * @returns {Counts | null}
   */
  next(counts, nowMs) {
    const [before, seconds] = [this.#before, (nowMs - this.#beforeMs) / 1000];
    this.#before = counts;
    this.#beforeMs = nowMs;
    if (before.size === 0 || seconds <= 0) return null;
    /** @type {Counts} */
    const rates = {};
    for (const [pid, now] of counts) {
      for (const [name, value] of Object.entries(now)) {
        // A new process may have the id of one that has ended.
        const events = Math.max(0, value - (before.get(pid)?.[name] ?? value));
        rates[name] = (rates[name] ?? 0) + events / seconds;
      }
    }
    return rates;
  }
}
