"""What the tests in a real browser share: this machine's own Chromium, and people who use the page.

They run by themselves, with ``make browser`` or ``python -m pytest tests/browser``: Playwright's sync
API keeps an event loop running, in which no asyncio test can run. Where there is no browser they are
skipped, or fail with ``REQUIRE_BROWSER=1`` in the environment.

- ``serve``, ``room``: from ``tests/conftest.py``. ``server``: the service in a process of its own; unlike
  those that ``serve`` starts it waits ``GRACE_SECONDS`` only before it says that somebody has left.
- ``new_person("Alice", room)``: somebody in a window of their own, signed in and connected, as a
  Playwright ``Page``. ``at=`` names another server than the shared one, or a line to one (``line.py``); what else is given goes to
  Playwright's ``new_context``, such as ``color_scheme="dark"``.
- ``new_window(at=..., **options)``: a window (a ``BrowserContext``) of a stranger; ``goto("/docs")`` and
  the like work in its pages.
- ``complaints``: errors and warnings on the console, uncaught errors, violations of the
  Content-Security-Policy, dialogs. At its end a test fails with all that it did not ``allow``.
- ``axe_violations(page)``: what axe-core finds, a line for each; ``[]`` is good.
- ``browser``: Playwright's ``Browser``, for all that the above does not do.
- ``pictures``: the folder of ``--screenshots=FOLDER``, else one that goes away.

Every wait ends after ``WAIT_SECONDS``, those of Playwright's ``expect`` too. ``pages.py`` has what people do.
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

from ..conftest import Server, running
from .pages import WAIT_SECONDS, enter

if TYPE_CHECKING:
    from .line import Line

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER_OF_MACOS = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
NO_BROWSER = (
    "no Chromium on PATH: install one, for instance with `apt-get install chromium`,"
    " or name one in CHROME_PATH"
)

AXE = Path(sys.prefix, "axe", "node_modules", "axe-core", "axe.min.js")
NO_AXE = f"no axe-core in {AXE.parent}: `make browser` fetches it where npm is installed"

# The console does not say so in every case.
REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
  console.error(`Content-Security-Policy: ${event.violatedDirective} forbids ${event.blockedURI}`);
});
"""

# Long enough for who comes back at once, and no test has to wait long for a "left".
GRACE_SECONDS = 0.5

NewWindow = Callable[..., BrowserContext]
NewPerson = Callable[..., Page]
AxeViolations = Callable[[Page], list[str]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--screenshots", metavar="FOLDER", type=Path, help="keep the pictures of the pages there"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    if any(folder in item.path.parents for item in items) and not all(
        folder in item.path.parents for item in items
    ):
        raise pytest.UsageError("tests/browser runs by itself: `python -m pytest tests/browser`")


def pytest_report_header() -> str:
    return f"browser: {find_browser() or NO_BROWSER}"


def find_browser() -> str | None:
    """This machine's own browser."""
    candidates = (os.environ.get("CHROME_PATH", ""), *BROWSERS, BROWSER_OF_MACOS)
    return next((path for path in map(shutil.which, filter(None, candidates)) if path), None)


class Complaints:
    """What the pages of one test have complained about."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        # A stranger is asked to sign in: Chromium reports the answer that says so.
        self.allowed = [re.compile(r"status of 401 \(Unauthorized\) at \S+/session$")]

    def allow(self, pattern: str) -> None:
        """Expect complaints in which the regular expression is found."""
        self.allowed.append(re.compile(pattern))

    def unexpected(self) -> list[str]:
        """All that nothing allows."""
        return [
            complaint
            for complaint in self.heard
            if not any(pattern.search(complaint) for pattern in self.allowed)
        ]

    def hear_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning", "assert"}:
            self.heard.append(f"{message.type}: {message.text} at {message.location['url']}")

    def hear_uncaught(self, error: WebError) -> None:
        self.heard.append(f"uncaught: {error.error}")

    def hear_dialog(self, dialog: Dialog) -> None:
        self.heard.append(f"dialog: {dialog.message}")
        dialog.dismiss()


def refuse(variable: str, reason: str) -> NoReturn:
    """Skip for this reason, or fail where the environment says so."""
    if os.environ.get(variable, "0") not in {"", "0"}:
        pytest.fail(f"{reason} ({variable} is set)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, websocket_path: str) -> Iterator[Server]:
    """One service that many tests share, each with rooms of its own."""
    variables = {"APP_PRESENCE_GRACE_SECONDS": str(GRACE_SECONDS)}
    with running(tmp_path_factory.mktemp("server"), websocket_path, (), variables) as server:
        server.wait_serving()
        yield server


@pytest.fixture(scope="session")
def executable() -> str:
    """The browser's path."""
    found = find_browser()
    if found is None:
        refuse("REQUIRE_BROWSER", NO_BROWSER)
    return found


@pytest.fixture(scope="session")
def playwright(executable: str) -> Iterator[Playwright]:
    """Playwright, which drives the browser; nothing is started where there is none."""
    expect.set_options(timeout=WAIT_SECONDS * 1000)
    with sync_playwright() as playwright:
        yield playwright


def launch(chromium: BrowserType, executable: str) -> Browser:
    """Start the browser in its sandbox, unless the system has none for it: root, some containers."""
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
    """One browser for all tests; each test has windows of its own."""
    browser = launch(playwright.chromium, executable)
    yield browser
    browser.close()


@pytest.fixture
def second_browser(playwright: Playwright, executable: str) -> Iterator[Browser]:
    """Another process, which a test may kill."""
    browser = launch(playwright.chromium, executable)
    yield browser
    browser.close()


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """What the pages of this test complain about; the test fails with what it did not allow."""
    complaints = Complaints()
    yield complaints
    assert complaints.unexpected() == []


@pytest.fixture
def new_window(
    browser: Browser, server: Server, start: Callable[..., Server], complaints: Complaints
) -> Iterator[NewWindow]:
    """Open a window that shares nothing with the others; its pages are its tabs.

    All are closed before the servers of the test, which is why ``start`` is wanted here.
    """
    windows: list[BrowserContext] = []

    def new_window(
        *, at: Server | Line | None = None, of: Browser | None = None, **options: Any
    ) -> BrowserContext:
        address = (at or server).url
        window = (of or browser).new_context(base_url=address, locale="en-GB", **options)
        windows.append(window)
        window.set_default_timeout(WAIT_SECONDS * 1000)
        window.on("console", complaints.hear_console)
        window.on("weberror", complaints.hear_uncaught)
        window.on("dialog", complaints.hear_dialog)
        window.add_init_script(REPORT_VIOLATIONS)
        return window

    yield new_window
    for window in windows:
        window.close()


@pytest.fixture
def new_person(new_window: NewWindow, room: str) -> NewPerson:
    """Open a window of somebody who is signed in and connected to a room, by default the test's."""

    def new_person(name: str, room_name: str = room, **options: Any) -> Page:
        window = new_window(**options)
        answer = window.request.post("/session", data={"name": name})
        assert answer.status == 201, answer.text()
        page = window.new_page()
        enter(page, room_name)
        return page

    return new_person


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    if not AXE.is_file():
        refuse("REQUIRE_AXE", NO_AXE)
    return AXE.read_text("utf-8")


@pytest.fixture
def axe_violations(axe: str) -> AxeViolations:
    """Ask axe-core about a page as it is now; a line for each violation, the best answer is ``[]``."""

    def axe_violations(page: Page) -> list[str]:
        # NOTE: by the debugger, because the page's policy forbids a script that is not its own.
        page.evaluate(axe)
        found: dict[str, Any] = page.evaluate("() => axe.run()")
        return [
            f"{violation['id']}: {node['target']}: {node['failureSummary']}"
            for violation in found["violations"]
            for node in violation["nodes"]
        ]

    return axe_violations


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where the pictures of the pages go."""
    folder: Path = request.config.getoption("--screenshots", None) or tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    return folder
