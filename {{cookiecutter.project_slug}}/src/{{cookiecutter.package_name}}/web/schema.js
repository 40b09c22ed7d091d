/** JSON Schemas as elements and text. */

import { element, paragraph } from "./page.js";

/** @typedef {Record<string, any>} Schema A JSON Schema, draft 07. */

/** The schemas of one document, with the references between them. */
export class Schemas {
  #document;

  /** @param {Record<string, any>} document */
  constructor(document) {
    this.#document = document;
  }

  /** Return the node that a reference points to, or the node itself. @param {any} node @returns {any} */
  resolve(node) {
    const reference = node?.$ref;
    if (typeof reference !== "string") return node ?? {};
    const path = reference.split("/").slice(1);
    return this.resolve(
      path.reduce((found, key) => found?.[key.replaceAll("~1", "/").replaceAll("~0", "~")], this.#document),
    );
  }

  /**
   * List the fields of an object, or of the objects in an array, including nested ones.
   *
   * @param {Schema} schema
   * @param {string[]} [inside] The references that lead here: recursion into a schema of its own kind stops.
   * @returns {HTMLElement | null} `null` if there are no fields.
   */
  fields(schema, inside = []) {
    if (typeof schema.$ref === "string") {
      return inside.includes(schema.$ref) ? null : this.fields(this.resolve(schema), [...inside, schema.$ref]);
    }
    const rows = Object.entries(schema.properties ?? {}).map(([name, field]) =>
      this.#row(name, field, schema.required?.includes(name) ?? false, inside),
    );
    for (const part of [schema.items, schema.additionalProperties, schema.anyOf, schema.oneOf, schema.allOf].flat()) {
      const nested = part && typeof part === "object" ? this.fields(part, inside) : null;
      if (nested) rows.push(element("li", "", element("span", "type", this.typeText(part)), nested));
    }
    return rows.length > 0 ? element("ul", "fields", ...rows) : null;
  }

  /** @param {string} name @param {Schema} field @param {boolean} isRequired @param {string[]} inside */
  #row(name, field, isRequired, inside) {
    const row = element("li", "", element("code", "field", name), " ", element("span", "type", this.typeText(field)));
    if (!isRequired) row.append(" ", element("span", "optional", "optional"));
    const bounds = boundsText(this.resolve(field));
    if (bounds) row.append(" ", element("span", "bounds", bounds));
    const description = field.description ?? this.resolve(field).description ?? "";
    if (description) row.append(paragraph(description));
    const nested = this.fields(field, inside);
    if (nested) row.append(nested);
    return row;
  }

  /** @param {Schema} schema @returns {string} */
  typeText(schema) {
    const all = (/** @type {Schema[]} */ schemas, /** @type {string} */ separator) =>
      schemas.map((part) => this.typeText(part)).join(separator);
    if (typeof schema.$ref === "string") return this.resolve(schema).title ?? this.typeText(this.resolve(schema));
    if ("const" in schema) return JSON.stringify(schema.const);
    if (schema.enum) return schema.enum.map((/** @type {unknown} */ value) => JSON.stringify(value)).join(" or ");
    const alternatives = schema.anyOf ?? schema.oneOf;
    if (alternatives) return all(alternatives, " or ");
    if (schema.allOf) return all(schema.allOf, " and ");
    if (Array.isArray(schema.items)) return `[${all(schema.items, ", ")}]`;
    if (schema.type === "array") return `array of ${this.typeText(schema.items ?? {})}`;
    if (schema.type === "object" && typeof schema.additionalProperties === "object") {
      return `object of ${this.typeText(schema.additionalProperties)}`;
    }
    return [schema.type ?? "anything", schema.format].filter(Boolean).join(", ");
  }
}

/** Return the constraints on a value besides its type. @param {Schema} schema */
function boundsText(schema) {
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
