"""The check of the port before the start."""

from __future__ import annotations

import socket

import pytest

from {{ cookiecutter.package_name }}.ports import LAST_PORT, check_port, taken


def test_a_taken_port_is_named_with_another_one() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SystemExit, match=f"Port {port} of 127.0.0.1 is taken"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_other_problems_are_left_to_the_server() -> None:
    check_port("127.0.0.1", 0)
    check_port("no-such-host.invalid", 1)
    check_port("192.0.2.1", 8000)


def test_the_suggested_port_exists() -> None:
    assert "PORT=8001" in taken("127.0.0.1", 8000, "APP_PORT")
    assert f"PORT={LAST_PORT - 1}" in taken("127.0.0.1", LAST_PORT, "APP_PORT")
    other = taken("127.0.0.1", 9000, "APP_METRICS_PORT")
    assert other.endswith("use another port with APP_METRICS_PORT=9001.")
