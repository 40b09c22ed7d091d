"""Fixtures for tests in a real browser: the installed Chromium, and signed-in users of the page.

Run them on their own, with ``make browser`` or ``python -m pytest tests/browser``: Playwright's sync API
keeps an event loop running, which excludes asyncio tests. Without a browser they are skipped, or fail with
``REQUIRE_BROWSER=1`` in the environment.

- ``serve``, ``room``: from ``tests/conftest.py``. ``server``: a service in a separate process; its
  grace period is ``GRACE_SECONDS``, shorter than that of services which ``serve`` starts.
- ``new_user("Alice", room)``: a user in a separate window who has signed in by name and is connected, as a Playwright
  ``Page``. ``at=`` selects another server than the shared one, or a relay to one (``relay.py``); other options
  are passed to Playwright's ``new_context``, such as ``color_scheme="dark"``.
- ``new_window(at=..., **options)``: a window (a ``BrowserContext``) without a sign-in; its pages accept
  relative URLs, such as ``goto("/docs")``.
- ``page_errors``: errors and warnings on the console, uncaught errors, violations of the
  Content-Security-Policy, dialogs. A test fails at its end on any error that it does not ``allow``.
- ``axe_violations(page)``: the violations that axe-core reports, a line each.
- ``browser``: Playwright's ``Browser``, for everything else.

Every wait ends after ``WAIT_SECONDS``, including those of Playwright's ``expect``. ``pages.py`` has the
actions and locators.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    BrowserType,
    ConsoleMessage,
    Dialog,
    Error,
    Page,
    Playwright,
    WebError,
    expect,
    sync_playwright,
)

from {{ cookiecutter.package_name }} import tokens
from {{ cookiecutter.package_name }}.cookies import SESSION_COOKIE
from {{ cookiecutter.package_name }}.users import User

from ..conftest import PACKAGE, SECRET, Server, running
from .pages import WAIT_SECONDS, open_room, sign_in

if TYPE_CHECKING:
    from .relay import Relay

# The headless build first: the tests take half the time in it.
BROWSERS = (
    "chromium-headless-shell",
    "chrome-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
BROWSER_OF_MACOS = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
NO_BROWSER = (
    "no Chromium on PATH: install one, for instance with `apt-get install chromium-headless-shell`,"
    " or name one in CHROME_PATH"
)

AXE = Path(sys.prefix, "axe", "node_modules", "axe-core", "axe.min.js")
NO_AXE = f"no axe-core in {AXE.parent}: `make browser` fetches it where npm is installed"

# A page waits for a random part of up to 30 s before an attempt to reconnect: here for a tenth, less than a test waits.
SHORT_DELAYS = "Math.random = () => 0.1;"

# Chromium does not log every violation on the console.
REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
  console.error(`Content-Security-Policy: ${event.violatedDirective} forbids ${event.blockedURI}`);
});
"""

# Long enough for an immediate reconnection, and short enough for tests that wait for a "left".
GRACE_SECONDS = 0.5

NewWindow = Callable[..., BrowserContext]
NewUser = Callable[..., Page]
SignIn = Callable[..., None]
AxeViolations = Callable[[Page], list[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    if any(folder in item.path.parents for item in items) and not all(
        folder in item.path.parents for item in items
    ):
        raise pytest.UsageError("run tests/browser on its own: `python -m pytest tests/browser`")


def pytest_report_header() -> str:
    return f"browser: {find_browser() or NO_BROWSER}"


def find_browser() -> str | None:
    """Return the path of the installed browser."""
    candidates = (os.environ.get("CHROME_PATH", ""), *BROWSERS, BROWSER_OF_MACOS)
    return next((path for path in map(shutil.which, filter(None, candidates)) if path), None)


class PageErrors:
    """The errors that the pages of one test have reported."""

    def __init__(self) -> None:
        self.recorded: list[str] = []
        self.allowed: list[re.Pattern[str]] = []

    def allow(self, pattern: str) -> None:
        """Allow errors that match the regular expression."""
        self.allowed.append(re.compile(pattern))

    def unexpected(self) -> list[str]:
        """Return the errors that are not allowed."""
        return [
            error
            for error in self.recorded
            if not any(pattern.search(error) for pattern in self.allowed)
        ]

    def record_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning", "assert"}:
            self.recorded.append(f"{message.type}: {message.text} at {message.location['url']}")

    def record_uncaught(self, error: WebError) -> None:
        self.recorded.append(f"uncaught: {error.error}")

    def record_dialog(self, dialog: Dialog) -> None:
        self.recorded.append(f"dialog: {dialog.message}")
        dialog.dismiss()


def skip_or_fail(variable: str, reason: str) -> NoReturn:
    """Skip the test, or fail it if the environment variable is set."""
    if os.environ.get(variable, "0") not in {"", "0"}:
        pytest.fail(f"{reason} ({variable} is set)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, websocket_path: str) -> Iterator[Server]:
    """A service shared by the tests, each of which uses separate rooms."""
    variables = {"APP_PRESENCE_GRACE_SECONDS": str(GRACE_SECONDS)}
    with running(tmp_path_factory.mktemp("server"), websocket_path, (), variables) as server:
        server.wait_serving()
        yield server


@pytest.fixture(scope="session")
def executable() -> str:
    """The path of the browser."""
    found = find_browser()
    if found is None:
        skip_or_fail("REQUIRE_BROWSER", NO_BROWSER)
    return found


@pytest.fixture(scope="session")
def playwright(executable: str) -> Iterator[Playwright]:
    """Playwright; it is not started without a browser."""
    expect.set_options(timeout=WAIT_SECONDS * 1000)
    with sync_playwright() as playwright:
        yield playwright


def launch(chromium: BrowserType, executable: str) -> Browser:
    """Start the browser, in its sandbox unless the system offers none: root, some containers."""
    options: dict[str, Any] = {"executable_path": executable, "timeout": WAIT_SECONDS * 1000}
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return chromium.launch(chromium_sandbox=False, **options)
    try:
        return chromium.launch(chromium_sandbox=True, **options)
    except Error as error:
        if "sandbox" not in str(error).lower():
            raise
        return chromium.launch(chromium_sandbox=False, **options)


@pytest.fixture(scope="session")
def browser(playwright: Playwright, executable: str) -> Iterator[Browser]:
    """One browser for all tests; each test opens separate windows."""
    browser = launch(playwright.chromium, executable)
    yield browser
    browser.close()


@pytest.fixture
def second_browser(playwright: Playwright, executable: str) -> Iterator[Browser]:
    """A separate browser process, which a test may kill."""
    browser = launch(playwright.chromium, executable)
    yield browser
    browser.close()


@pytest.fixture
def page_errors() -> Iterator[PageErrors]:
    """The errors of this test's pages; the test fails on those that it does not allow."""
    page_errors = PageErrors()
    yield page_errors
    assert page_errors.unexpected() == []


@pytest.fixture
def new_window(
    browser: Browser, server: Server, start: Callable[..., Server], page_errors: PageErrors
) -> Iterator[NewWindow]:
    """Open an isolated window; its pages are its tabs.

    The fixture depends on ``start`` so that the windows close before the test's servers.
    """
    windows: list[BrowserContext] = []

    def new_window(
        *, at: Server | Relay | None = None, of: Browser | None = None, **options: Any
    ) -> BrowserContext:
        address = (at or server).url
        window = (of or browser).new_context(base_url=address, locale="en-GB", **options)
        windows.append(window)
        window.set_default_timeout(WAIT_SECONDS * 1000)
        window.on("console", page_errors.record_console)
        window.on("weberror", page_errors.record_uncaught)
        window.on("dialog", page_errors.record_dialog)
        window.add_init_script(REPORT_VIOLATIONS)
        return window

    yield new_window
    for window in windows:
        window.close()


@pytest.fixture
def new_user(new_window: NewWindow, room: str) -> NewUser:
    """Open a window of a user who signs in and is connected to a room, by default the test's."""

    def new_user(name: str, room_name: str = room, **options: Any) -> Page:
        window = new_window(**options)
        window.add_init_script(SHORT_DELAYS)
        page = window.new_page()
        open_room(page, room_name)
        sign_in(page, name)
        return page

    return new_user


@pytest.fixture
def add_session(server: Server) -> SignIn:
    """Add the cookie of a signed-in user to a window, as a sign-in at an identity provider does.

    All tabs of the window share it, and it replaces that of an earlier user.
    """

    def add_session(
        window: BrowserContext,
        user_id: str,
        name: str,
        *,
        at: Server | Relay | None = None,
        seconds: int = 3600,
    ) -> None:
        made = tokens.Tokens(
            [SECRET],
            issuer=PACKAGE,
            environment="test",
            lifetime_seconds=seconds,
            session_seconds=3600,
        )
        token, _ = made.start(User(id=user_id, name=name))
        url = (at or server).url
        window.add_cookies([{"name": SESSION_COOKIE, "value": token, "url": url, "httpOnly": True}])

    return add_session


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    if not AXE.is_file():
        skip_or_fail("REQUIRE_AXE", NO_AXE)
    return AXE.read_text("utf-8")


@pytest.fixture
def axe_violations(axe: str) -> AxeViolations:
    """Run axe-core on the current state of a page and return a line for each violation."""

    def axe_violations(page: Page) -> list[str]:
        # NOTE: evaluated by the debugger, because the page's policy forbids foreign scripts.
        page.evaluate(axe)
        found: dict[str, Any] = page.evaluate("() => axe.run()")
        return [
            f"{violation['id']}: {node['target']}: {node['failureSummary']}"
            for violation in found["violations"]
            for node in violation["nodes"]
        ]

    return axe_violations
