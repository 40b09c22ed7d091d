/**
 * The text of a message as nodes, with links and with `code` between backticks.
 *
 * SECURITY: each part becomes a text node, never markup, and a link shows the host to which it leads.
 */

import { element } from "../page.js";

/**
 * A part of a text, without its backticks. `block` is code between three backticks; `text` of a link is a valid URL.
 *
 * @typedef {object} Part
 * @property {"text" | "code" | "block" | "link"} kind
 * @property {string} text
 */

// A block has its own lines, and possibly a word for the language after the first backticks.
const CODE = /\n?```(?:[\w+-]*\n)?([^]+?)\n?```\n?|(?<!`)`([^`\n]+)`(?!`)/g;
// Ends at white space, invisible characters and quotes, and at the punctuation that Chinese and Japanese put without a space.
const POSSIBLE_LINK =
  /(?<![\p{L}\p{N}_])https?:\/\/[^\s\p{C}\p{Default_Ignorable_Code_Point}<>"`\u3000-\u303f\uff00-\uffef]+/giu;
const PUNCTUATION = ".,;:!?'…’”»›،؛؟";
const CLOSING = new Map(Object.entries({ "(": ")", "[": "]", "{": "}" }));
const CLOSING_BRACKETS = new Set(CLOSING.values());
// SECURITY: without "@", so that `https://bank.example@evil.example` is not a link, and without "%" and "\".
const AUTHORITY = /^https?:\/\/(?:[\p{L}\p{M}\p{N}.-]+|\[[\da-f:.]+\])(?::\d+)?(?=[/?#]|$)/iu;

/** @param {string} text */
export function textNodes(text) {
  return parts(text).map((part) => {
    if (part.kind === "text") return document.createTextNode(part.text);
    if (part.kind === "link") return linkNode(part.text);
    return element("code", part.kind === "block" ? "block" : "", part.text);
  });
}

/** Split a text; there are no empty parts. @param {string} text @returns {Part[]} */
export function parts(text) {
  /** @type {Part[]} */
  const found = [];
  let end = 0;
  for (const { 0: whole, 1: block, 2: code = "", index } of text.matchAll(CODE)) {
    found.push(...withLinks(text.slice(end, index)));
    found.push(block === undefined ? { kind: "code", text: code } : { kind: "block", text: block });
    end = index + whole.length;
  }
  return [...found, ...withLinks(text.slice(end))];
}

/** @param {string} text @returns {Part[]} */
function withLinks(text) {
  /** @type {Part[]} */
  const found = [];
  let end = 0;
  for (const { 0: run, index } of text.matchAll(POSSIBLE_LINK)) {
    const url = withoutTrailing(run);
    if (!AUTHORITY.test(url) || !URL.canParse(url)) continue;
    found.push({ kind: "text", text: text.slice(end, index) }, { kind: "link", text: url });
    end = index + url.length;
  }
  found.push({ kind: "text", text: text.slice(end) });
  return found.filter((part) => part.text !== "");
}

/** Return a URL without what belongs to the sentence: all from the first bracket without its partner, and punctuation. @param {string} url */
function withoutTrailing(url) {
  let end = url.length;
  /** @type {{ closing: string, index: number }[]} */
  const open = [];
  for (let index = 0; index < end; index += 1) {
    const character = url.charAt(index);
    const closing = CLOSING.get(character);
    if (closing) open.push({ closing, index });
    else if (open.at(-1)?.closing === character) open.pop();
    else if (CLOSING_BRACKETS.has(character)) end = index;
  }
  end = Math.min(end, open[0]?.index ?? end);
  while (PUNCTUATION.includes(url.charAt(end - 1))) end -= 1;
  return url.slice(0, end);
}

/** @param {string} url */
function linkNode(url) {
  const link = element("a", "", url);
  const { href, hostname } = new URL(url);
  link.href = href;
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
  link.dir = "ltr"; // Isolated too: no character before it, nor in its path, reorders its host.
  if (hostname.includes("xn--")) link.title = href; // Letters of other scripts may look like Latin ones.
  return link;
}
