"""The scenarios of realtime.js in a browser; tests/web runs them in Node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from ..web.scripted_server import scripted_server
from ..web.test_realtime import CLIENT, HERE

if TYPE_CHECKING:
    from ..conftest import Server
    from .conftest import NewWindow, PageErrors

SCENARIOS = HERE / "realtime_scenarios.js"
VECTORS = HERE / "realtime_vectors.json"

# Errors that the scenarios cause on purpose.
EXPECTED_ERRORS = (
    r"WebSocket connection to 'ws://127[.]0[.]0[.]1:\d+/ws/",
    r"/favicon[.]ico$",
)

# Runs all scenarios of a list; returns the failures and the number of scenarios.
RUN = """
async ([list, address, roomAddress, vectors]) => {
  const realtime = await import("/static/realtime.js");
  const scenarios = await import("/static/realtime_scenarios.js");
  const all = [...scenarios[list], ...(vectors ? scenarios.vectorScenarios(JSON.parse(vectors)) : [])];
  const post = async (path, body, headers = {}) => {
    headers["Content-Type"] = "application/json";
    const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
    if (response.status !== 201) throw new Error(await response.text());
    return response.json();
  };
  const signIn = async (name) => {
    const { token } = await post("/session", { name });
    const headers = { Authorization: `Bearer ${token}` };
    return { ticket: async () => (await post("/session/ticket", {}, headers)).ticket };
  };
  const context = { realtime, url: address, service: { url: roomAddress, signIn } };
  const failures = [];
  for (const { name, run } of all) {
    try {
      await run(context);
    } catch (error) {
      failures.push(`${name}: ${error.stack}`);
    }
  }
  return { failures, count: all.length };
}
"""


@pytest.mark.timeout(120)
def test_the_scenarios_pass_in_a_browser(
    new_window: NewWindow, server: Server, page_errors: PageErrors
) -> None:
    for pattern in EXPECTED_ERRORS:
        page_errors.allow(pattern)
    policy = httpx.get(server.url, trust_env=False).headers["Content-Security-Policy"]
    scripts = {"/static/realtime.js": CLIENT, "/static/realtime_scenarios.js": SCENARIOS}
    with scripted_server(scripts, policy) as address:
        page = new_window().new_page()
        page.goto(address)
        url = f"ws://{urlsplit(address).netloc}/ws/"
        result: dict[str, Any] = page.evaluate(
            RUN, ["scenarios", url, "", VECTORS.read_text("utf-8")]
        )
        page.goto("about:blank")
    assert result["failures"] == []
    assert result["count"] > 80


def test_the_service_scenarios_pass_in_a_browser(
    new_window: NewWindow, websocket_path: str, room: str, page_errors: PageErrors
) -> None:
    window = new_window()
    # The script is served from the page's origin, so that the service's policy allows it.
    window.route(
        "**/static/realtime_scenarios.js",
        lambda route: route.fulfill(path=SCENARIOS, content_type="text/javascript"),
    )
    page = window.new_page()
    page.goto("/")
    path = f"{websocket_path}/{room}"
    result: dict[str, Any] = page.evaluate(RUN, ["serviceScenarios", "", path, ""])
    assert result == {"failures": [], "count": 2}
