/** A small chart of a number over the last two minutes. */

import { element } from "../page.js";
import { number } from "./numbers.js";

const SVG = "http://www.w3.org/2000/svg";
const POINTS = 120;
const HEIGHT = 40;

export class Chart {
  #title;
  /** @type {number[]} */
  #values = [];
  #value = element("span", "value", "–");
  #image = document.createElementNS(SVG, "svg");
  #line = document.createElementNS(SVG, "path");
  figure;

  /** @param {string} title */
  constructor(title) {
    this.#title = title;
    this.#image.setAttribute("viewBox", `0 0 ${POINTS - 1} ${HEIGHT}`);
    this.#image.setAttribute("preserveAspectRatio", "none");
    this.#image.setAttribute("role", "img");
    this.#image.setAttribute("aria-label", `${title}: no value yet`);
    this.#image.append(this.#line);
    const caption = element("figcaption", "", element("span", "", title), this.#value);
    this.figure = element("figure", "chart", caption);
    this.figure.append(this.#image);
  }

  /** Add the value of now; the oldest one leaves a full chart. @param {number} value */
  add(value) {
    this.#values = [...this.#values, value].slice(-POINTS);
    const largest = Math.max(...this.#values);
    const scale = HEIGHT / (largest || 1);
    const start = POINTS - this.#values.length;
    const points = this.#values.map((each, index) => `${start + index},${(HEIGHT - each * scale).toFixed(1)}`);
    this.#line.setAttribute("d", `M${points.join("L")}`);
    this.#value.textContent = number(value);
    this.#image.setAttribute("aria-label", `${this.#title}: ${number(value)} now, ${number(largest)} at most`);
  }
}
