/**
 * The page that explains the messages: it shows what the AsyncAPI document at /asyncapi.json says.
 *
 * SECURITY: what the document says reaches the page as text nodes only, never as markup.
 */

import { button, byId, element } from "./page.js";

/** @typedef {Record<string, any>} Schema A JSON Schema, draft 07. */

/**
 * @typedef {object} Message
 * @property {string} id Where on the page it is.
 * @property {string} name
 * @property {string} summary
 * @property {Schema} payload The whole message.
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
 * @property {Message[]} received What clients send.
 * @property {Message[]} sent What clients get.
 */

const page = {
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

/** What the search looks at: a text, and the elements that it shows or hides. @type {[string, HTMLElement[]][]} */
let searched = [];

async function start() {
  page.retry.hidden = true;
  page.notice.textContent = "Loading the messages…";
  try {
    const response = await fetch("/asyncapi.json");
    if (!response.ok) throw new Error(`the service answered ${response.status}`);
    contract = await response.json();
  } catch (error) {
    page.notice.textContent = `The messages could not be loaded: ${error instanceof Error ? error.message : error}.`;
    page.retry.hidden = false;
    return;
  }
  page.notice.textContent = "";
  await show();
}

async function show() {
  const channels = Object.entries(contract.channels ?? {}).map(([name, described]) => channelOf(name, described));
  const inProduction = "production" in (contract.servers ?? {});
  const { Session, Trial } = inProduction ? { Session: null, Trial: null } : await import("./try.js");
  const session = Session && new Session();
  searched = [];
  page.index.replaceChildren();
  page.document.replaceChildren(overview());
  if (session) page.document.append(session.panel);
  for (const channel of channels) {
    const trial = Trial && session && new Trial(channel, session);
    page.document.append(channelSection(channel, trial));
    const entries = [...channel.received, ...channel.sent].map((message) => indexEntry(message));
    page.index.append(element("li", "", link(`#${channel.name}`, channel.title), element("ul", "", ...entries)));
  }
  page.contents.hidden = false;
  search();
  // What the address names was not there when the browser looked for it.
  document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

// --- What the document says -----------------------------------------------------------------------

/** @param {any} node @returns {any} What a reference leads to, or the thing itself. */
function resolve(node) {
  const reference = node?.$ref;
  if (typeof reference !== "string") return node ?? {};
  const place = reference.split("/").slice(1);
  return resolve(place.reduce((found, key) => found?.[key.replaceAll("~1", "/").replaceAll("~0", "~")], contract));
}

/** @param {string} name @param {Record<string, any>} described @returns {Channel} */
function channelOf(name, described) {
  const spoken = (/** @type {string} */ action) =>
    Object.values(contract.operations ?? {})
      .filter((operation) => operation.action === action && operation.channel.$ref === `#/channels/${name}`)
      .flatMap((operation) => operation.messages.map((/** @type {any} */ each) => messageOf(name, action, resolve(each))));
  return {
    name,
    title: described.title ?? name,
    address: described.address ?? "",
    description: described.description ?? "",
    parameters: described.parameters ?? {},
    closeCodes: described["x-close-codes"] ?? {},
    received: spoken("receive"),
    sent: spoken("send"),
  };
}

/** @param {string} channel @param {string} action @param {Record<string, any>} described @returns {Message} */
function messageOf(channel, action, described) {
  return {
    id: `${channel}-${action}-${described.name}`.replace(/[^\w.-]/g, "_"),
    name: described.name,
    summary: described.summary ?? "",
    payload: resolve(described.payload),
    example: described.examples?.[0]?.payload,
    isJson: described.contentType !== "application/octet-stream",
  };
}

// --- The document ---------------------------------------------------------------------------------

function overview() {
  const { title, version, description } = contract.info ?? {};
  const facts = element("dl", "facts");
  for (const [name, server] of Object.entries(contract.servers ?? {})) {
    facts.append(element("dt", "", name), element("dd", "", element("code", "", `${server.protocol}://${server.host}`)));
  }
  for (const scheme of Object.values(contract.components?.securitySchemes ?? {})) {
    const words = scheme.in === "cookie" ? `Cookie ${scheme.name}` : `Authorization: ${scheme.scheme ?? scheme.type}`;
    facts.append(element("dt", "", words), element("dd", "", ...prose(scheme.description ?? "")));
  }
  const heading = element("h1", "", title ?? "Messages", " ", element("span", "version", version ?? ""));
  return element("header", "overview", heading, paragraph(description ?? ""), facts);
}

/** @param {Channel} channel @param {import("./try.js").Trial | null} trial */
function channelSection(channel, trial) {
  const section = element("section", "channel");
  const heading = element("h2", "", link(`#${channel.name}`, channel.title));
  heading.id = channel.name;
  section.append(heading, element("p", "address", element("code", "", channel.address)), paragraph(channel.description));
  const parameters = Object.entries(channel.parameters).map(([name, parameter]) => [name, parameter.description ?? ""]);
  if (parameters.length > 0) section.append(element("h3", "", "Parameters"), terms(parameters));
  const codes = Object.entries(channel.closeCodes);
  if (codes.length > 0) section.append(element("h3", "", "The service closes with"), terms(codes));
  if (trial) section.append(trial.panel);
  if (channel.received.length > 0) {
    const cards = channel.received.map((message) => messageCard(message, message.isJson && trial ? trial.form(message) : null));
    section.append(element("h3", "", "You send"), ...cards);
  }
  if (channel.sent.length > 0) {
    section.append(element("h3", "", "You get"), ...channel.sent.map((message) => messageCard(message, null)));
  }
  return section;
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
  const required = message.payload.required?.includes("payload") ?? false;
  const rows = fieldRows(payload, []);
  card.append(
    element("h5", "", required ? "Payload" : "Payload, which may be missing"),
    rows ?? element("p", "hint", typeWords(resolve(payload)) === "object" ? "No fields." : typeWords(payload)),
  );
  if (message.example !== undefined) card.append(exampleBlock(message.example));
  if (form) card.append(form);
  return card;
}

/** @param {unknown} example */
function exampleBlock(example) {
  const text = JSON.stringify(example, null, 2);
  const code = element("pre", "example", element("code", "", text));
  code.tabIndex = 0; // a long line is scrolled by key, too
  code.setAttribute("aria-label", "Example");
  code.setAttribute("role", "group");
  const said = element("span", "hint");
  said.setAttribute("role", "status");
  const copy = button("Copy", "link", async () => {
    await navigator.clipboard.writeText(text);
    said.textContent = "Copied.";
  });
  copy.hidden = !navigator.clipboard; // only there on a secure origin
  return element("div", "", element("h5", "", "Example ", copy, said), code);
}

// --- Schemas --------------------------------------------------------------------------------------

/**
 * The fields of an object, or of the objects in an array, with those inside them.
 *
 * @param {Schema} schema
 * @param {string[]} inside The references that lead here: a schema that holds itself ends.
 * @returns {HTMLElement | null} Nothing where there are no fields.
 */
function fieldRows(schema, inside) {
  if (typeof schema.$ref === "string") {
    return inside.includes(schema.$ref) ? null : fieldRows(resolve(schema), [...inside, schema.$ref]);
  }
  const several = [schema.items, schema.additionalProperties, schema.anyOf, schema.oneOf, schema.allOf].flat();
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]) => {
    const isRequired = schema.required?.includes(name) ?? false;
    const row = element("li", "", element("code", "field", name), " ", element("span", "type", typeWords(field)));
    if (!isRequired) row.append(" ", element("span", "optional", "optional"));
    const bounds = boundWords(resolve(field));
    if (bounds) row.append(" ", element("span", "bounds", bounds));
    const words = field.description ?? resolve(field).description ?? "";
    if (words) row.append(paragraph(words));
    row.append(...[fieldRows(field, inside)].filter((inner) => inner !== null));
    return row;
  });
  for (const each of several) {
    const inner = each && typeof each === "object" ? fieldRows(each, inside) : null;
    if (inner) rows.push(element("li", "", element("span", "type", typeWords(each)), inner));
  }
  return rows.length > 0 ? element("ul", "fields", ...rows) : null;
}

/** @param {Schema} schema @returns {string} */
function typeWords(schema) {
  if (typeof schema.$ref === "string") return resolve(schema).title ?? typeWords(resolve(schema));
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((/** @type {unknown} */ value) => JSON.stringify(value)).join(" or ");
  const several = schema.anyOf ?? schema.oneOf;
  if (several) return several.map(typeWords).join(" or ");
  if (schema.allOf) return schema.allOf.map(typeWords).join(" and ");
  if (Array.isArray(schema.items)) return `[${schema.items.map(typeWords).join(", ")}]`;
  if (schema.type === "array") return `array of ${typeWords(schema.items ?? {})}`;
  if (schema.type === "object" && typeof schema.additionalProperties === "object") {
    return `object of ${typeWords(schema.additionalProperties)}`;
  }
  return [schema.type ?? "anything", schema.format].filter(Boolean).join(", ");
}

/** @param {Schema} schema @returns {string} What a value has to fit besides its type. */
function boundWords(schema) {
  const number = (/** @type {number} */ value) => value.toLocaleString("en");
  /** @param {number | undefined} least @param {number | undefined} most @param {string} unit */
  const range = (least, most, unit) => {
    if (least !== undefined && most !== undefined) return `${number(least)} to ${number(most)}${unit}`;
    if (least !== undefined) return `at least ${number(least)}${unit}`;
    return most === undefined ? "" : `at most ${number(most)}${unit}`;
  };
  return [
    range(schema.minLength, schema.maxLength, " characters"),
    range(schema.minItems, schema.maxItems, " items"),
    range(schema.minimum, schema.maximum, ""),
    schema.exclusiveMinimum === undefined ? "" : `above ${number(schema.exclusiveMinimum)}`,
    schema.exclusiveMaximum === undefined ? "" : `below ${number(schema.exclusiveMaximum)}`,
    schema.multipleOf === undefined ? "" : `a multiple of ${number(schema.multipleOf)}`,
    schema.pattern === undefined ? "" : `matching ${schema.pattern}`,
    schema.default === undefined ? "" : `default ${JSON.stringify(schema.default)}`,
  ]
    .filter(Boolean)
    .join(", ");
}

// --- Search ---------------------------------------------------------------------------------------

/** @param {Message} message */
function indexEntry(message) {
  const card = byId(message.id, HTMLElement);
  const entry = element("li", "", link(`#${message.id}`, message.name));
  const fields = [...card.querySelectorAll(".field, .fields p")].map((each) => each.textContent);
  searched.push([[message.name, message.summary, ...fields].join(" ").toLowerCase(), [card, entry]]);
  return entry;
}

function search() {
  const words = page.search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const [text, elements] of searched) {
    const fits = words.every((word) => text.includes(word));
    count += Number(fits);
    for (const each of elements) each.hidden = !fits;
  }
  page.found.textContent = words.length === 0 ? "" : `${count} of ${searched.length} messages`;
}

// --- Building blocks ------------------------------------------------------------------------------

/** Words with `code` between backticks. @param {string} text */
function prose(text) {
  return text.split("`").map((part, index) => (index % 2 === 0 ? part : element("code", "", part)));
}

/** @param {string} text */
function paragraph(text) {
  return element("p", "", ...prose(text));
}

/** @param {string} href @param {string} words */
function link(href, words) {
  const made = element("a", "", words);
  made.setAttribute("href", href);
  return made;
}

/** @param {string[][]} pairs */
function terms(pairs) {
  const list = element("dl", "terms");
  for (const [term, meaning] of pairs) {
    list.append(element("dt", "", element("code", "", term)), element("dd", "", ...prose(meaning)));
  }
  return list;
}

page.retry.addEventListener("click", start);
page.search.addEventListener("input", search);
document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement;
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    page.search.focus();
  } else if (event.key === "Escape" && event.target === page.search) {
    page.search.value = "";
    search();
  }
});
start();
