"""The check of uvicorn's options at the start of a process."""

from typing import Any

import pytest

from falcon_pachinko.server.missing_bounds import COMPRESSION, FRAMES, REQUESTS, WHOLE_MESSAGES
from falcon_pachinko.uvicorn import BoundedHTTPProtocol, PushProtocol, attributes
from falcon_pachinko.uvicorn.start_check import check_options

BOUNDED: dict[str, Any] = {
    "ws": PushProtocol,
    "http": BoundedHTTPProtocol,
    "ws_max_size": 65_536,
    "ws_per_message_deflate": False,
}


def test_nothing_is_logged_if_all_bounds_hold(caplog: pytest.LogCaptureFixture) -> None:
    check_options(BOUNDED)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"ws": "websockets-sansio"}, [FRAMES, WHOLE_MESSAGES, COMPRESSION]),
        ({"ws": "none"}, [FRAMES]),
        ({"http": "h11"}, [REQUESTS]),
        ({"ws_max_size": 16 * 1024 * 1024}, [WHOLE_MESSAGES]),
        ({"ws_per_message_deflate": True}, [COMPRESSION]),
    ],
)
def test_the_missing_bounds_are_logged_in_one_line(
    caplog: pytest.LogCaptureFixture, change: dict[str, Any], missing: list[str]
) -> None:
    check_options({**BOUNDED, **change})
    [record] = caplog.records
    every = (FRAMES, WHOLE_MESSAGES, COMPRESSION, REQUESTS)
    assert [bound for bound in every if bound in record.getMessage()][: len(missing)] == missing


def test_a_larger_bound_of_the_routes_counts(caplog: pytest.LogCaptureFixture) -> None:
    check_options({**BOUNDED, "ws_max_size": 100_000}, max_message_bytes=100_000)
    assert caplog.records == []


def test_an_unknown_release_of_uvicorn_is_reported(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PushProtocol behaves like uvicorn's class if that lacks an attribute."""
    monkeypatch.setattr(
        attributes, "REQUIRED_ATTRIBUTES", (*attributes.REQUIRED_ATTRIBUTES, "gone")
    )
    check_options(BOUNDED)
    assert FRAMES in caplog.text
