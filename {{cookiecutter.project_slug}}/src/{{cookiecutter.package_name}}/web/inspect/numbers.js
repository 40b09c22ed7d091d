/** Numbers and durations as text. */

const FORMAT = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const BYTES_PER_UNIT = 1024;
const UNITS = ["bytes", "KiB", "MiB", "GiB"];

/** @param {number} value */
export function number(value) {
  return FORMAT.format(value);
}

/** @param {number} bytes */
export function size(bytes) {
  let [value, unit] = [bytes, 0];
  while (value >= BYTES_PER_UNIT && unit < UNITS.length - 1) {
    value /= BYTES_PER_UNIT;
    unit += 1;
  }
  return `${number(value)} ${UNITS[unit]}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}
