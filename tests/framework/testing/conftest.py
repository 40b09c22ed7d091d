"""Fixtures of the tests of the test kit."""

from collections.abc import AsyncIterator

import pytest

from falcon_pachinko.testing import Running, run

from .lobby import Open, in_process, in_process_push, make_app, served, served_push

OPENERS = [in_process, in_process_push, served, served_push]


@pytest.fixture(params=OPENERS, ids=lambda opener: opener.__name__)
def open_app(request: pytest.FixtureRequest) -> Open:
    """Run an application in-process or on a port, with and without the push protocol."""
    open_app: Open = request.param
    return open_app


@pytest.fixture
async def chat(open_app: Open) -> AsyncIterator[Running]:
    """The lobby, opened in each way."""
    async with open_app(make_app()) as chat:
        yield chat


@pytest.fixture
async def local() -> AsyncIterator[Running]:
    """The lobby in-process."""
    async with run(make_app()) as chat:
        yield chat
