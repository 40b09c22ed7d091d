"""The installed uvicorn has what the framework depends on; a class that lacks it is recognised."""

import uvicorn
from uvicorn.server import ServerState

from falcon_pachinko.uvicorn.attributes import has_attributes
from falcon_pachinko.uvicorn.handshake_check import no_application
from falcon_pachinko.uvicorn.protocol import PushSansIOProtocol


class WithoutQueue(PushSansIOProtocol):
    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config, state, {})
        del self.queue


async def test_a_class_is_known_by_the_attributes_of_its_objects() -> None:
    config = uvicorn.Config(no_application, log_config=None)
    for _ in range(2):
        complete = PushSansIOProtocol(config, ServerState(), {})
        assert has_attributes(complete)
        assert not has_attributes(WithoutQueue(config, ServerState()))
