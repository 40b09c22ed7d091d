/** The parts of a message's text; `test_text.py` passes the module's address. */

import assert from "node:assert/strict";
import test from "node:test";

const { parts } = await import(process.env.TEXT ?? "");

const MAX_TEXT_CHARACTERS = 2_000;
const BOUND_MS = 200;

/** The links in a text. @param {string} text @returns {string[]} */
function links(text) {
  return parts(text)
    .filter((/** @type {{ kind: string }} */ { kind }) => kind === "link")
    .map((/** @type {{ text: string }} */ part) => part.text);
}

test("a text without links and code is one part", () => {
  const text = "Hello,\n  <b>world</b> & 'all' http: // www.example.com";
  assert.deepEqual(parts(text), [{ kind: "text", text }]);
  assert.deepEqual(parts(""), []);
});

test("links are http and https only", () => {
  assert.deepEqual(parts("see http://a.example and HTTPS://b.example/x?y=1#z now"), [
    { kind: "text", text: "see " },
    { kind: "link", text: "http://a.example" },
    { kind: "text", text: " and " },
    { kind: "link", text: "HTTPS://b.example/x?y=1#z" },
    { kind: "text", text: " now" },
  ]);
  for (const scheme of ["javascript:", "data:", "ftp:", "file:", "xhttps:", "çhttps:"]) {
    assert.deepEqual(links(`${scheme}//a.example/%0aalert(1)`), []);
  }
  assert.deepEqual(links("javascript:location='https://a.example'"), ["https://a.example"]);
});

test("punctuation after a link does not belong to it", () => {
  for (const after of [".", ",", ";", ":", "!", "?", "?!", "...", "…", "'", '"', "”", ">", "。続き", "，", "؟"]) {
    assert.deepEqual(links(`https://a.example/b${after}`), ["https://a.example/b"], after);
  }
  assert.deepEqual(links("https://a.example/b.c?d,e!f"), ["https://a.example/b.c?d,e!f"]);
});

test("a link has only brackets with their partner", () => {
  const cases = {
    "(https://a.example/b)": "https://a.example/b",
    "[name](https://a.example/b).": "https://a.example/b",
    "https://a.example/b_(c)": "https://a.example/b_(c)",
    "(https://a.example/b_(c)).": "https://a.example/b_(c)",
    "https://a.example/(b.)": "https://a.example/(b.)",
    "https://a.example/b]c": "https://a.example/b",
    "https://a.example/b(c": "https://a.example/b",
    "https://a.example/b(c]d)": "https://a.example/b",
    "https://[::1]:8000/b)": "https://[::1]:8000/b",
  };
  for (const [text, link] of Object.entries(cases)) assert.deepEqual(links(text), [link], text);
});

test("a URL whose host could be mistaken is not a link", () => {
  for (const url of [
    "https://bank.example@evil.example",
    "https://bank.example:443@evil.example/",
    "https://@evil.example",
    "https://bank.example\\@evil.example",
    "https://bank.example%2f.evil.example",
    "https://bank.example\u2215login.evil.example",
    "https:///evil.example",
    "https://",
    "https://.",
    "https://a.example:port/",
    "https://a.example:99999/",
    "https://[::zz]/",
  ]) {
    assert.deepEqual(links(url), [], url);
  }
  assert.deepEqual(links("https://a.example/@name?to=b@c.example"), ["https://a.example/@name?to=b@c.example"]);
});

test("a link ends at control, bidirectional and invisible characters", () => {
  for (const invisible of ["\0", "\x1b", "\u200b", "\u202e", "\u2066", "\u2069", "\ufeff", "\u3164", "\u00ad", "\ud800"]) {
    const text = `https://a.example/b${invisible}c`;
    assert.deepEqual(links(text), ["https://a.example/b"], escape(invisible));
    assert.equal(parts(text).map((/** @type {{ text: string }} */ part) => part.text).join(""), text);
  }
});

test("code is text between backticks, without links", () => {
  assert.deepEqual(parts("run `make https://a.example` or `<b>`!"), [
    { kind: "text", text: "run " },
    { kind: "code", text: "make https://a.example" },
    { kind: "text", text: " or " },
    { kind: "code", text: "<b>" },
    { kind: "text", text: "!" },
  ]);
  for (const text of ["a ` b", "``a``", "`a\nb`", "``", "``````"]) {
    assert.deepEqual(parts(text), [{ kind: "text", text }]);
  }
});

test("a block of code has several lines", () => {
  assert.deepEqual(parts("so:\n```js\nlet a = `1`;\n\n  b();\n```\nfine"), [
    { kind: "text", text: "so:" },
    { kind: "block", text: "let a = `1`;\n\n  b();" },
    { kind: "text", text: "fine" },
  ]);
  assert.deepEqual(parts("```a b```"), [{ kind: "block", text: "a b" }]);
  assert.deepEqual(parts("```never closed"), [{ kind: "text", text: "```never closed" }]);
});

test("no text takes long", () => {
  const units = ["`", "```", "```\n", "`a", "\n", "(", ")", "()", ".", "https://", "https://a", "https://a.example/(", "http", "[", "@"];
  for (const unit of units) {
    for (const start of ["", "https://a.example/", "`", "```"]) {
      const text = (start + unit.repeat(MAX_TEXT_CHARACTERS)).slice(0, MAX_TEXT_CHARACTERS);
      const beganMs = performance.now();
      parts(text);
      assert.ok(performance.now() - beganMs < BOUND_MS, start + unit);
    }
  }
});
