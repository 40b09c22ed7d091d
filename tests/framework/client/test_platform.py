"""The real environment and the simulated one have the same methods; mypy compares their types."""

from typing import Any

import pytest

from falcon_pachinko.client.platform import Platform, Socket, Timer
from falcon_pachinko.client.rooms import RoomSocket
from falcon_pachinko.client.sockets import AsyncioPlatform, WebsocketsSocket

from .simulation import FakeSocket, FakeTimer, Simulation


def methods_of(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


@pytest.mark.parametrize("implementation", [AsyncioPlatform, Simulation])
def test_an_environment_has_the_methods_of_the_protocol(implementation: type) -> None:
    assert methods_of(Platform) <= set(dir(implementation))


@pytest.mark.parametrize("implementation", [WebsocketsSocket, RoomSocket, FakeSocket])
def test_a_socket_can_be_sent_to_and_closed(implementation: type) -> None:
    assert {"send", "close"} <= methods_of(Socket) & set(dir(implementation))


def test_mypy_accepts_the_implementations() -> None:
    def accepts(
        real: AsyncioPlatform, fake: Simulation, socket: FakeSocket, timer: FakeTimer
    ) -> Any:
        platforms: list[Platform] = [real, fake]
        sockets: list[Socket] = [socket]
        timers: list[Timer] = [timer]
        return platforms, sockets, timers

    assert callable(accepts)
