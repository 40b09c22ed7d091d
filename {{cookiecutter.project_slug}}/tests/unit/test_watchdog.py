"""A handler that blocks the event loop is named in development only."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from falcon_pachinko import lifespan

from {{ cookiecutter.package_name }} import app

if TYPE_CHECKING:
    from ..conftest import MakeSettings


@pytest.mark.parametrize(("environment", "count"), [("development", 1), ("test", 0)])
async def test_the_loop_is_watched_in_development_only(
    make_settings: MakeSettings, environment: str, count: int
) -> None:
    async with lifespan(app.create_app(make_settings(environment=environment))):
        watching = [each for each in threading.enumerate() if each.name == "watchdog of the loop"]
        assert len(watching) == count
