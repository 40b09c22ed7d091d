"""Sign-in at an identity provider, and sign-out here and there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from ..provider import TestProvider, running_provider
from .pages import expect_connected, expect_messages, open_room, send_message

if TYPE_CHECKING:
    from ..conftest import Server
    from .conftest import AxeViolations, NewWindow, PageErrors


@pytest.fixture
def provider() -> Iterator[TestProvider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def page(serve: Callable[..., Server], new_window: NewWindow, provider: TestProvider) -> Page:
    """A page of a service with this provider."""
    return new_window(at=serve(**provider.variables())).new_page()


def test_a_user_signs_in_with_the_button_chats_and_signs_out(
    page: Page, provider: TestProvider, room: str
) -> None:
    open_room(page, room)
    page.get_by_role("button", name="Sign in").click()
    expect_connected(page)
    assert page.url.endswith(f"/#{room}")
    expect(page.locator("#own-name")).to_have_text("Alice")
    send_message(page, "Hello")
    expect_messages(page, "Hello")
    second = page.context.new_page()
    open_room(second, room)
    expect_connected(second)

    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(second.get_by_role("button", name="Sign in")).to_be_visible()
    assert provider.requests["/logout"] == 1
    assert page.context.cookies() == []


def test_a_cancelled_sign_in_is_explained_and_can_be_repeated(
    page: Page, provider: TestProvider, room: str, page_errors: PageErrors
) -> None:
    page_errors.allow("the server responded with a status of 403")
    provider.answer = "access_denied"
    open_room(page, room)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text(
        "The sign-in was cancelled, or you may not use this service."
    )
    provider.answer = ""
    page.get_by_role("link", name="Sign in again").click()
    expect_connected(page)
    assert page.url.endswith(f"/#{room}")


def test_the_page_of_a_refused_sign_in_is_accessible(
    page: Page, axe_violations: AxeViolations, page_errors: PageErrors
) -> None:
    page_errors.allow("the server responded with a status of 400")
    page.goto("/login/callback?state=unknown")
    expect(page.get_by_role("alert")).to_be_visible()
    assert axe_violations(page) == []
