"""The page /docs: the document, the search, and the "Try it" panels."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from .pages import LOOKS, NARROW

if TYPE_CHECKING:
    from ..conftest import Server
    from .conftest import AxeViolations, NewUser, NewWindow, PageErrors

MARKUP = "<img src=x onerror=\"document.title='broken into'\"><b>bold</b>"

# Markup in every text, and the kinds of schema that the chat's own document lacks.
UNUSUAL: dict[str, Any] = {
    "asyncapi": "3.0.0",
    "info": {"title": MARKUP, "version": "1", "description": MARKUP},
    "servers": {"development": {"host": "example.com", "protocol": "wss"}},
    "channels": {
        "first": {
            "address": "/a/{b}",
            "title": MARKUP,
            "parameters": {"b": {"description": MARKUP}},
        },
        "second": {"address": "/b", "title": "Second", "x-close-codes": {"4001": MARKUP}},
    },
    "operations": {
        f"{action}{channel}": {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "messages": [{"$ref": f"#/components/messages/{message}"}],
        }
        for channel, action, message in [
            ("first", "receive", "deep"),
            ("first", "send", "binary"),
            ("second", "send", "any"),
        ]
    },
    "components": {
        "messages": {
            "deep": {
                "name": "deep <i>thing</i>",
                "summary": MARKUP,
                "payload": {
                    "required": ["type", "payload"],
                    "properties": {"payload": {"$ref": "#/components/schemas/Tree"}},
                },
                "examples": [{"payload": {"type": "deep", "payload": {"name": MARKUP}}}],
            },
            "binary": {"name": "data", "contentType": "application/octet-stream", "payload": {}},
            "any": {"name": "any", "payload": {"properties": {"payload": {"type": "object"}}}},
        },
        "schemas": {
            "Tree": {
                "title": "Tree",
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {
                        "type": "string",
                        "description": MARKUP,
                        "pattern": "<b>",
                        "maxLength": 5,
                    },
                    "children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
                    "leaf": {
                        "anyOf": [
                            {
                                "type": "object",
                                "properties": {"colour": {"enum": ["red", 1, None]}},
                            },
                            {"type": "null"},
                        ]
                    },
                    "pair": {"type": "array", "items": [{"type": "integer"}, {"type": "string"}]},
                    "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
                    "at": {"type": "string", "format": "date-time", "default": "now"},
                    "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "minItems": 2},
                },
            }
        },
    },
}


def open_docs(page: Page) -> None:
    """Load the page and wait until it shows the document."""
    page.goto("/docs")
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def card(page: Page, name: str) -> Locator:
    """Return the card of one message."""
    return page.get_by_role("article").filter(
        has=page.get_by_role("heading", name=name, exact=True)
    )


def documented(server: Server) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(f"{server.url}/asyncapi.json", trust_env=False).json()
    return document


def show(page: Page, document: dict[str, Any]) -> None:
    """Load the page with another document."""
    page.route(
        "**/asyncapi.json",
        lambda route: route.fulfill(body=json.dumps(document), content_type="application/json"),
    )
    open_docs(page)


@pytest.fixture
def docs(new_window: NewWindow) -> Page:
    """The page without a sign-in."""
    page = new_window().new_page()
    open_docs(page)
    return page


def test_the_page_shows_the_whole_document(docs: Page, server: Server) -> None:
    document = documented(server)
    messages = document["components"]["messages"].values()
    # A message that several channels have is described in the first one.
    in_order = list(
        dict.fromkeys(
            reference["$ref"].rpartition("/")[2]
            for channel in document["channels"]
            for action in ("receive", "send")
            for operation in document["operations"].values()
            if operation["channel"]["$ref"] == f"#/channels/{channel}"
            if operation["action"] == action
            for reference in operation["messages"]
        )
    )
    assert sorted(in_order) == sorted(message["name"] for message in messages)
    names = docs.get_by_role("article").get_by_role("heading", level=4)
    expect(names).to_have_text(in_order)
    links = docs.get_by_role("navigation").get_by_role("listitem").get_by_role("listitem")
    expect(links).to_have_text(in_order)
    for message in messages:
        shown = card(docs, message["name"])
        # Text between backticks is shown as code.
        expect(shown).to_contain_text(message["summary"].replace("`", ""))
        example = json.dumps(message["examples"][0]["payload"], indent=2, ensure_ascii=False)
        expect(shown.get_by_label("Example")).to_have_text(example, use_inner_text=True)
    for channel in document["channels"].values():
        expect(docs.get_by_text(channel["address"], exact=True)).to_be_visible()
        for code, meaning in channel["x-close-codes"].items():
            expect(docs.get_by_role("definition").filter(has_text=meaning).first).to_be_visible()
            expect(docs.get_by_role("term").filter(has_text=code).first).to_be_visible()


def test_a_request_leads_to_its_replies(docs: Page) -> None:
    request = card(docs, "clientLoadHistory")
    expect(request).to_contain_text("serverHistory or serverError")
    request.get_by_role("link", name="serverHistory").click()
    expect(docs.locator(":target").get_by_role("heading", level=4)).to_have_text("serverHistory")
    expect(card(docs, "serverHistory")).not_to_contain_text("Reply to")


def test_a_message_of_several_channels_is_described_once(docs: Page) -> None:
    expect(card(docs, "serverNewMessage")).to_have_count(1)
    shared = docs.locator(".shared")
    expect(shared).to_have_count(2)
    shared.first.get_by_role("link", name="clientSendMessage").click()
    expect(docs.locator(":target").get_by_role("heading", level=4)).to_have_text(
        "clientSendMessage"
    )
    expect(card(docs, "clientJoin")).to_have_count(1)


def test_a_field_has_its_type_bounds_and_description(docs: Page) -> None:
    text = card(docs, "clientSendMessage").get_by_role("listitem")
    expect(text).to_have_text("text string 1 to 2,000 characters")
    fields = card(docs, "serverError").get_by_role("listitem")
    expect(fields).to_have_count(4)
    expect(fields.nth(2)).to_contain_text("field string optional")
    expect(card(docs, "clientStartTyping")).to_contain_text("No fields.")


def test_a_message_added_to_the_document_is_shown(docs: Page, server: Server) -> None:
    document = documented(server)
    new = {
        "name": "serverDiceRolled",
        "summary": "A die was thrown.",
        "payload": {"properties": {}},
    }
    document["components"]["messages"]["serverDiceRolled"] = new
    sends = next(each for each in document["operations"].values() if each["action"] == "send")
    sends["messages"].append({"$ref": "#/components/messages/serverDiceRolled"})
    show(docs, document)
    expect(card(docs, "serverDiceRolled")).to_contain_text("A die was thrown.")


def test_search_finds_names_descriptions_and_fields(docs: Page, server: Server) -> None:
    total = len(documented(server)["components"]["messages"])
    shown = docs.get_by_role("article")
    search = docs.get_by_role("searchbox", name="Search the messages")
    docs.keyboard.press("/")
    expect(search).to_be_focused()
    docs.keyboard.type("istyping")
    expect(shown.get_by_role("heading", level=4)).to_have_text(["serverUserTyping"])
    expect(docs.get_by_text(f"1 of {total} messages")).to_be_visible()
    search.fill("isTyping LIST")
    expect(shown).to_have_count(0)
    search.fill("Sender ROOM")
    senders = ["clientSendReply", "clientSendMessage"]
    expect(shown.get_by_role("heading", level=4)).to_have_text(senders)
    search.press("Escape")
    expect(shown).to_have_count(total)
    expect(docs.locator("#found")).to_be_empty()


def test_a_link_leads_to_a_message(docs: Page) -> None:
    docs.get_by_role("navigation").get_by_role("link", name="serverError").click()
    heading = docs.get_by_role("heading", name="serverError")
    expect(heading).to_be_in_viewport()
    docs.reload()
    expect(heading).to_be_in_viewport()


def test_an_example_is_copied(new_window: NewWindow) -> None:
    page = new_window(permissions=["clipboard-read", "clipboard-write"]).new_page()
    open_docs(page)
    shown = card(page, "clientSendMessage")
    shown.get_by_role("button", name="Copy").click()
    expect(shown.get_by_text("Copied.")).to_be_visible()
    copied = page.evaluate("() => navigator.clipboard.readText()")
    assert json.loads(copied)["type"] == "clientSendMessage"


def test_a_message_is_sent_over_a_live_connection(docs: Page, new_user: NewUser, room: str) -> None:
    listener = new_user("Listener")
    docs.get_by_role("textbox", name="room_name").fill(room)
    form = card(docs, "clientSendMessage")
    form.get_by_text("Try it").click()
    form.get_by_role("button", name="Send clientSendMessage").click()
    expect(docs.get_by_role("textbox", name="Your name")).to_be_focused()
    docs.keyboard.type("Tester")
    docs.keyboard.press("Enter")
    expect(docs.get_by_text("You are signed in as Tester.")).to_be_visible()

    area = form.get_by_role("textbox")
    area.fill('{"type": "clientSendMessage", "payload": {"text": "From the docs"}}')
    form.get_by_role("button", name="Send clientSendMessage").click()
    log = docs.get_by_role("log").get_by_role("listitem")
    expect(log.filter(has_text="You received").filter(has_text="From the docs")).to_be_visible()
    expect(log.filter(has_text="You sent")).to_have_count(1)
    expect(docs.get_by_text("Connected.", exact=True)).to_be_visible()
    expect(listener.get_by_role("log").get_by_text("From the docs")).to_be_visible()

    area.fill('{"type": "clientSendMessage", "payload": {"text": ""}}')
    form.get_by_role("button", name="Send clientSendMessage").click()
    expect(log.filter(has_text="serverError").filter(has_text="length >= 1")).to_be_visible()
    for bad, problem in (("{", "This is not valid JSON"), ("[]", 'A message needs a "type".')):
        area.fill(bad)
        form.get_by_role("button", name="Send clientSendMessage").click()
        expect(form.get_by_role("alert")).to_contain_text(problem)


def test_a_close_code_is_shown_with_its_documented_meaning(docs: Page) -> None:
    docs.get_by_role("textbox", name="Your name").fill("Tester")
    docs.get_by_role("button", name="Sign in").click()
    expect(docs.get_by_text("You are signed in as Tester.")).to_be_visible()
    docs.get_by_role("textbox", name="room_name").fill("x" * 300)
    docs.get_by_role("button", name="Connect", exact=True).first.click()
    expect(docs.get_by_text("Closed (4400: the room name is invalid).")).to_be_visible()
    docs.get_by_role("textbox", name="room_name").fill("general")
    docs.get_by_role("button", name="Connect", exact=True).first.click()
    expect(docs.get_by_text("Connected.", exact=True)).to_be_visible()
    docs.get_by_role("button", name="Disconnect").first.click()
    expect(docs.locator(".try-state").first).to_have_text("Not connected.")


def test_an_invalid_name_is_reported_at_its_field(docs: Page, page_errors: PageErrors) -> None:
    page_errors.allow(r"status of 422 .* at \S+/session$")
    docs.get_by_role("textbox", name="Your name").fill("x" * 41)
    docs.get_by_role("button", name="Sign in").click()
    expect(docs.get_by_role("alert").first).to_contain_text("it takes 1 to 40")


def test_production_has_no_try_it_panels(
    new_window: NewWindow, serve: Callable[..., Server]
) -> None:
    page = new_window(at=serve(APP_ENVIRONMENT="production")).new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url.rpartition("/")[2]))
    open_docs(page)
    expect(card(page, "clientSendMessage")).to_be_visible()
    expect(page.get_by_text("Try it")).to_have_count(0)
    expect(page.get_by_role("textbox")).to_have_count(0)
    assert "asyncapi.json" in requested
    assert not {"session", "try.js", "realtime.js"} & set(requested)


def test_loading_the_document_can_be_retried(
    new_window: NewWindow, page_errors: PageErrors
) -> None:
    page_errors.allow("status of 503")
    page = new_window().new_page()
    page.route("**/asyncapi.json", lambda route: route.fulfill(status=503), times=1)
    page.goto("/docs")
    expect(
        page.get_by_text("The messages could not be loaded: the service answered 503.")
    ).to_be_visible()
    page.get_by_role("button", name="Try again").click()
    expect(card(page, "clientSendMessage")).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()


def test_a_document_that_cannot_be_shown_can_be_loaded_again(new_window: NewWindow) -> None:
    page = new_window().new_page()
    broken = {"channels": {"a": None}}
    page.route("**/asyncapi.json", lambda route: route.fulfill(json=broken), times=1)
    page.goto("/docs#100%")
    expect(page.get_by_text("The messages could not be loaded: ")).to_be_visible()
    expect(page.locator("#document")).to_be_empty()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("main")).to_be_focused()
    expect(card(page, "clientSendMessage")).to_be_visible()
    expect(page.locator("#notice")).to_be_empty()
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()


def test_markup_in_the_document_stays_text(docs: Page) -> None:
    title = docs.title()
    show(docs, UNUSUAL)
    expect(docs.get_by_role("heading", level=1)).to_contain_text("<b>bold</b>")
    expect(docs.locator("main img, main b, main i")).to_have_count(0)
    assert docs.title() == title


def test_every_kind_of_schema_is_described(docs: Page) -> None:
    show(docs, UNUSUAL)
    fields = card(docs, "deep <i>thing</i>").locator(".fields > li")
    expect(fields.filter(has=docs.get_by_text("children", exact=True))).to_have_text(
        "children array of Tree optional"
    )
    for text in (
        "at most 5 characters, matching <b>",
        'colour "red" or 1 or null',
        "leaf object or null optional",
        "pair [integer, string]",
        "counts object of integer",
        'at string, date-time optional default "now"',
        "at most 1, above 0",
    ):
        expect(fields.filter(has_text=text).first).to_be_visible()
    expect(card(docs, "data")).to_contain_text("A binary message")
    expect(card(docs, "data").get_by_role("button")).to_have_count(0)


@pytest.mark.parametrize("look", LOOKS)
def test_the_page_has_no_axe_violations(
    new_window: NewWindow, axe_violations: AxeViolations, look: str
) -> None:
    page = new_window(**LOOKS[look]).new_page()
    open_docs(page)
    assert axe_violations(page) == []
    page.get_by_role("textbox", name="Your name").fill("Tester")
    page.get_by_role("button", name="Sign in").click()
    form = card(page, "clientSendMessage")
    form.get_by_text("Try it").click()
    expect(page.get_by_text("You are signed in as Tester.")).to_be_visible()
    form.get_by_role("button", name="Send clientSendMessage").click()
    expect(page.get_by_role("log").get_by_text("You received").first).to_be_visible()
    assert axe_violations(page) == []
    page.get_by_role("searchbox").fill("nothing is called like this")
    assert axe_violations(page) == []


def test_a_narrow_screen_does_not_scroll_horizontally(new_window: NewWindow) -> None:
    page = new_window(viewport=NARROW).new_page()
    for document in (None, UNUSUAL):
        open_docs(page) if document is None else show(page, document)
        wide = "() => document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wide) == 0
