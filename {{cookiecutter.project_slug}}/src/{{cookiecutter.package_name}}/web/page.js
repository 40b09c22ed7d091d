/**
 * Elements of both pages.
 *
 * SECURITY: text becomes text nodes, never markup.
 */

/**
 * Return the element with this id.
 *
 * @template {HTMLElement} E
 * @param {string} id
 * @param {new () => E} kind
 * @returns {E}
 * @throws {Error} If the page has no such element of this kind.
 */
export function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} with the id "${id}"`);
  return found;
}

/**
 * Create an element.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} className
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** @param {string} label @param {string} className @param {() => void} onClick */
export function button(label, className, onClick) {
  const node = element("button", className, label);
  node.type = "button";
  node.addEventListener("click", onClick);
  return node;
}

/** Show or hide an element; from one that is hidden the focus moves on. @param {HTMLElement} node @param {boolean} isShown @param {HTMLElement} next It gets the focus. */
export function setShown(node, isShown, next) {
  if (!isShown && node.contains(document.activeElement)) next.focus();
  node.hidden = !isShown;
}

/** Return text in which `code` between backticks is marked up. @param {string} text */
export function prose(text) {
  return text.split("`").map((part, index) => (index % 2 === 0 ? part : element("code", "", part)));
}

/** @param {string} text */
export function paragraph(text) {
  return element("p", "", ...prose(text));
}

/**
 * Return the URL of a path of the service. Both pages are at its root, which a proxy may have put below a
 * path of its own.
 *
 * @param {string} path
 */
export function urlOf(path) {
  return new URL(`./${path.replace(/^\/+/, "")}`, document.baseURI);
}
