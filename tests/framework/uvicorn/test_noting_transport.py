"""A transport notes what a ring must not overtake, until it has sent it or is lost."""

import asyncio
from collections.abc import Iterator

import pytest

from falcon_pachinko.uvicorn.noting_transport import descriptor_of

from ..support.ring_rooms import NEW_LOOP, WAIT_SECONDS, Members, Run, runner
from ..support.rings import needs_ring


@pytest.fixture(params=NEW_LOOP)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with runner(request.param) as run:
        yield run


@needs_ring
@pytest.mark.parametrize("end", ["close", "abort", "write_eof"])
def test_the_note_of_a_connection_ends_with_it(run: Run, end: str) -> None:
    async def scenario(members: Members) -> None:
        for _ in range(3):
            await members.connect()
        ended = members.all[1]
        members.broadcast(members.group(), "before")
        members.batch.flush()
        getattr(ended.transport, end)()
        assert list(members.batch.unsent) == [ended.outbox.noting]
        ended.client.close()
        async with asyncio.timeout(WAIT_SECONDS):
            while not ended.is_lost:  # noqa: ASYNC110 - no event announces the change
                await asyncio.sleep(0.001)
        ended.transport.close()  # as uvicorn may
        assert not members.batch.unsent

    run(scenario)


def test_other_transports_have_no_descriptor() -> None:
    class Wrapper:
        def is_closing(self) -> bool:
            return False

    assert descriptor_of(Wrapper()) == -1  # type: ignore[arg-type]
