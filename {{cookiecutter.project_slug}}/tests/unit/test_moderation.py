"""The commands of moderators and operators that print something."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from {{ cookiecutter.package_name }} import settings, tokens
from {{ cookiecutter.package_name }}.__main__ import main

from ..conftest import WAIT_SECONDS, Server


@pytest.fixture(autouse=True)
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    """The settings of a service for tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APP_SECRET", secret)
    monkeypatch.setenv("APP_ENVIRONMENT", "test")


@pytest.mark.parametrize(
    ("arguments", "seconds"), [((), 8 * 3600), (("--seconds", "90"), 90)], ids=repr
)
def test_a_token_is_printed_alone_and_its_end_beside_it(
    arguments: tuple[str, ...], seconds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["token", "robot", "--role", "staff", *arguments])
    output, errors = capsys.readouterr()
    session = tokens.Tokens.of(settings.load_settings()).read(output.strip())
    assert session is not None
    assert (session.user.id, session.user.roles) == ("robot", frozenset({"staff"}))
    found = re.fullmatch(r"valid until (\S+)\n", errors)
    assert found is not None
    end = datetime.fromisoformat(found[1]).timestamp()
    assert end == session.user.expires_at
    assert abs(end - time.time() - seconds) < 60


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("token", "robot", "--seconds", "0"),
            "token: --seconds is 0: give 1 to 28800 (APP_TOKEN_LIFETIME_SECONDS)",
        ),
        (("token", "robot", "--seconds", "28801"), "token: --seconds is 28801: give 1 to 28800"),
        (("token", " "), "token: "),
        (
            ("ban", "mallory"),
            "ban: no process of the service has a socket in 'var' (APP_STATE_FOLDER)",
        ),
    ],
    ids=repr,
)
def test_a_command_that_cannot_work_ends_with_a_sentence(
    arguments: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    assert str(ended.value.code).startswith(sentence)


@pytest.mark.slow
def test_a_path_prefix_that_is_a_route_ends_the_program_with_a_sentence(
    start: Callable[..., Server],
) -> None:
    server = start(APP_ROOT_PATH="/session")
    assert server.process.wait(WAIT_SECONDS) == 1
    server.reader.join(WAIT_SECONDS)
    reason = "Invalid settings:\n  '/session' begins with the path prefix '/session': "
    assert reason in server.output()
