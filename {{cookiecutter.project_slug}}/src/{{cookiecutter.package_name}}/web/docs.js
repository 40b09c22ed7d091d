/**
 * The page /docs: shows the AsyncAPI document at /asyncapi.json.
 *
 * SECURITY: the document's text reaches the page as text nodes only, never as markup.
 */

import { button, byId, element, paragraph, prose, setShown, urlOf } from "./page.js";
import { Schemas } from "./schema.js";

/**
 * @typedef {object} Message
 * @property {object} described Its part of the document, which channels may share.
 * @property {string} id The id of its element on the page.
 * @property {string} name
 * @property {string} summary
 * @property {import("./schema.js").Schema} payload The schema of the message with its envelope.
 * @property {Record<string, any>[]} replies The parts of the document about the messages that reply to it.
 * @property {unknown} example
 * @property {boolean} isJson
 */

/**
 * @typedef {object} Channel
 * @property {string} name
 * @property {string} title
 * @property {string} address
 * @property {string} description
 * @property {Record<string, Record<string, any>>} parameters
 * @property {Record<string, string>} closeCodes
 * @property {Message[]} received The messages that clients send.
 * @property {Message[]} sent The messages that clients receive.
 */

const page = {
  main: byId("contract", HTMLElement),
  contents: byId("contents", HTMLElement),
  search: byId("search", HTMLInputElement),
  found: byId("found", HTMLElement),
  index: byId("index", HTMLElement),
  notice: byId("notice", HTMLElement),
  retry: byId("retry", HTMLButtonElement),
  document: byId("document", HTMLElement),
};

/** @type {Record<string, any>} */
let contract = {};
let schemas = new Schemas(contract);

/** The first message that describes each part of the document: those of other channels lead to it. @type {Map<object, Message>} */
const known = new Map();

/** Each message's text, with the elements to show or hide. @type {[string, HTMLElement[]][]} */
let searched = [];

async function start() {
  setShown(page.retry, false, page.main);
  page.notice.textContent = "Loading the messages…";
  try {
    const response = await fetch(urlOf("asyncapi.json"));
    if (!response.ok) throw new Error(`the service answered ${response.status}`);
    contract = await response.json();
    schemas = new Schemas(contract);
    page.notice.textContent = "";
    await show();
  } catch (error) {
    page.document.replaceChildren();
    page.notice.textContent = `The messages could not be loaded: ${error instanceof Error ? error.message : error}.`;
    page.retry.hidden = false;
  }
}

async function show() {
  known.clear();
  const channels = Object.entries(contract.channels ?? {}).map(([name, described]) => channelOf(name, described));
  const inProduction = "production" in (contract.servers ?? {});
  const { Session, TryPanel } = inProduction ? { Session: null, TryPanel: null } : await import("./try.js");
  const session = Session && new Session();
  searched = [];
  page.index.replaceChildren();
  page.document.replaceChildren(overview());
  if (session) page.document.append(session.panel);
  for (const channel of channels) {
    const tryPanel = TryPanel && session && new TryPanel(channel, session);
    page.document.append(channelSection(channel, tryPanel));
    const entries = [...channel.received, ...channel.sent].filter(isFirst).map((message) => indexEntry(message));
    page.index.append(element("li", "", link(`#${channel.name}`, channel.title), element("ul", "", ...entries)));
  }
  page.contents.hidden = false;
  search();
  scrollToHash();
}

/** The element that the hash names did not exist when the browser looked for it. */
function scrollToHash() {
  try {
    document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
  } catch {
    // A stray % sign.
  }
}

// --- Reading the document -------------------------------------------------------------------------

/** @param {string} name @param {Record<string, any>} described @returns {Channel} */
function channelOf(name, described) {
  const messagesOf = (/** @type {string} */ action) =>
    Object.values(contract.operations ?? {})
      .filter((operation) => operation.action === action && operation.channel.$ref === `#/channels/${name}`)
      .flatMap((operation) =>
        operation.messages.map((/** @type {any} */ message) =>
          messageOf(name, action, schemas.resolve(message), operation.reply?.messages ?? []),
        ),
      );
  return {
    name,
    title: described.title ?? name,
    address: described.address ?? "",
    description: described.description ?? "",
    parameters: described.parameters ?? {},
    closeCodes: described["x-close-codes"] ?? {},
    received: messagesOf("receive"),
    sent: messagesOf("send"),
  };
}

/** @param {Message} message */
function isFirst(message) {
  return known.get(message.described) === message;
}

/** @param {string} channel @param {string} action @param {string} name */
function idOf(channel, action, name) {
  return `${channel}-${action}-${name}`.replace(/[^\w.-]/g, "_");
}

/** @param {string} channel @param {string} action @param {Record<string, any>} described @param {any[]} replies @returns {Message} */
function messageOf(channel, action, described, replies) {
  const message = {
    described,
    id: idOf(channel, action, described.name),
    name: described.name,
    replies: replies.map((each) => schemas.resolve(each)),
    summary: described.summary ?? "",
    payload: schemas.resolve(described.payload),
    example: described.examples?.[0]?.payload,
    isJson: described.contentType !== "application/octet-stream",
  };
  if (!known.has(described)) known.set(described, message);
  return message;
}

// --- Channels and messages ------------------------------------------------------------------------

function overview() {
  const { title, version, description } = contract.info ?? {};
  const facts = element("dl", "facts");
  for (const [name, server] of Object.entries(contract.servers ?? {})) {
    facts.append(element("dt", "", name), element("dd", "", element("code", "", `${server.protocol}://${server.host}`)));
  }
  for (const scheme of Object.values(contract.components?.securitySchemes ?? {})) {
    const term = scheme.in === "cookie" ? `Cookie ${scheme.name}` : `Authorization: ${scheme.scheme ?? scheme.type}`;
    facts.append(element("dt", "", term), element("dd", "", ...prose(scheme.description ?? "")));
  }
  const heading = element("h1", "", title ?? "Messages", " ", element("span", "version", version ?? ""));
  return element("header", "overview", heading, paragraph(description ?? ""), facts);
}

/** @param {Channel} channel @param {import("./try.js").TryPanel | null} tryPanel */
function channelSection(channel, tryPanel) {
  const section = element("section", "channel");
  const heading = element("h2", "", link(`#${channel.name}`, channel.title));
  heading.id = channel.name;
  section.append(heading, element("p", "address", element("code", "", channel.address)), paragraph(channel.description));
  const parameters = Object.entries(channel.parameters).map(([name, parameter]) => [name, parameter.description ?? ""]);
  if (parameters.length > 0) section.append(element("h3", "", "Parameters"), terms(parameters));
  const codes = Object.entries(channel.closeCodes);
  if (codes.length > 0) section.append(element("h3", "", "Close codes"), terms(codes));
  if (tryPanel) section.append(tryPanel.panel);
  const form = (/** @type {Message} */ message) => (message.isJson && tryPanel ? tryPanel.form(message) : null);
  section.append(...messageCards("You send", channel.received, form), ...messageCards("You receive", channel.sent, () => null));
  return section;
}

/** @param {string} title @param {Message[]} messages @param {(message: Message) => HTMLElement | null} form */
function messageCards(title, messages, form) {
  if (messages.length === 0) return [];
  const cards = messages.filter(isFirst).map((message) => messageCard(message, form(message)));
  const others = messages.filter((message) => !isFirst(message)).map(({ described }) => known.get(described));
  const links = others.flatMap((other, index) => (other ? [index > 0 ? ", " : "", link(`#${other.id}`, other.name)] : []));
  const shared = links.length > 0 ? [element("p", "shared", "As above: ", ...links, ".")] : [];
  return [element("h3", "", title), ...cards, ...shared];
}

/** @param {Message} message @param {HTMLElement | null} form */
function messageCard(message, form) {
  const heading = element("h4", "", link(`#${message.id}`, message.name));
  const card = element("article", "message-card", heading, paragraph(message.summary));
  card.id = message.id;
  if (!message.isJson) {
    card.append(element("p", "hint", "A binary message: bytes without an envelope."));
    return card;
  }
  const payload = message.payload.properties?.payload ?? {};
  const isRequired = message.payload.required?.includes("payload") ?? false;
  const typeText = schemas.typeText(schemas.resolve(payload)) === "object" ? "No fields." : schemas.typeText(payload);
  card.append(
    element("h5", "", isRequired ? "Payload" : "Payload (optional)"),
    schemas.fields(payload) ?? element("p", "hint", typeText),
  );
  if (message.replies.length > 0) {
    const links = message.replies.map((described) => link(`#${known.get(described)?.id}`, described.name));
    const replies = links.flatMap((reply, index) => (index > 0 ? [" or ", reply] : [reply]));
    card.append(element("h5", "", "Reply to a message with a ref"), element("p", "replies", ...replies));
  }
  if (message.example !== undefined) card.append(exampleBlock(message.example));
  if (form) card.append(form);
  return card;
}

/** @param {unknown} example */
function exampleBlock(example) {
  const text = JSON.stringify(example, null, 2);
  const code = element("pre", "example", element("code", "", text));
  code.tabIndex = 0; // Keyboard users can scroll long lines.
  code.setAttribute("aria-label", "Example");
  code.setAttribute("role", "group");
  const status = element("span", "hint");
  status.setAttribute("role", "status");
  const copy = button("Copy", "link", async () => {
    await navigator.clipboard.writeText(text);
    status.textContent = "Copied.";
  });
  copy.hidden = !navigator.clipboard; // Browsers offer it on secure origins only.
  return element("div", "", element("h5", "", "Example ", copy, status), code);
}

/** @param {string} href @param {string} text */
function link(href, text) {
  const anchor = element("a", "", text);
  anchor.setAttribute("href", href);
  return anchor;
}

/** @param {string[][]} pairs */
function terms(pairs) {
  const list = element("dl", "terms");
  for (const [term, meaning] of pairs) {
    list.append(element("dt", "", element("code", "", term)), element("dd", "", ...prose(meaning)));
  }
  return list;
}

// --- Search ---------------------------------------------------------------------------------------

/** @param {Message} message */
function indexEntry(message) {
  const card = byId(message.id, HTMLElement);
  const entry = element("li", "", link(`#${message.id}`, message.name));
  const fields = [...card.querySelectorAll(".field, .fields p")].map((node) => node.textContent);
  searched.push([[message.name, message.summary, ...fields].join(" ").toLowerCase(), [card, entry]]);
  return entry;
}

function search() {
  const terms = page.search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const [text, elements] of searched) {
    const matches = terms.every((term) => text.includes(term));
    count += Number(matches);
    for (const node of elements) node.hidden = !matches;
  }
  page.found.textContent = terms.length === 0 ? "" : `${count} of ${searched.length} messages`;
}

page.retry.addEventListener("click", start);
page.search.addEventListener("input", search);
document.addEventListener("keydown", (event) => {
  const isTyping = event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement;
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    page.search.focus();
  } else if (event.key === "Escape" && event.target === page.search) {
    page.search.value = "";
    search();
  }
});
start();
