"""The settings of the stop: how long it takes, in production and elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from falcon_pachinko.backends.timing import Timing
from falcon_pachinko.limits import Limits
from falcon_pachinko.server.drain import DrainPolicy
from falcon_pachinko.workers import WorkerController

from {{ cookiecutter.package_name }} import stop_settings

if TYPE_CHECKING:
    from ..conftest import MakeSettings


@pytest.mark.parametrize("environment", ["development", "test"])
def test_outside_production_a_service_stops_at_once(
    make_settings: MakeSettings, environment: str
) -> None:
    loaded = make_settings(environment=environment)
    assert (loaded.drain.delay_seconds, loaded.drain.seconds) == (0.0, 0.0)
    given = make_settings(environment=environment, drain_seconds=3)
    assert given.drain == DrainPolicy(delay_seconds=0.0, seconds=3.0)


def test_in_production_the_clients_of_a_service_move_to_other_nodes(
    make_settings: MakeSettings,
) -> None:
    loaded = make_settings(environment="production")
    assert loaded.drain == DrainPolicy(delay_seconds=5.0, seconds=20.0)
    given = make_settings(
        environment="production", drain_seconds=0, drain_connections_per_second=10
    )
    expected = DrainPolicy(delay_seconds=5.0, seconds=0.0, connections_per_second=10.0)
    assert given.drain == expected


def test_the_whole_stop_is_the_sum_of_its_steps(make_settings: MakeSettings) -> None:
    assert make_settings(environment="production").stop_seconds == 75
    assert make_settings(environment="development").stop_seconds == 50
    longer = {"drain_delay_seconds": 10, "drain_seconds": 60.5, "graceful_shutdown_seconds": 30}
    assert make_settings(environment="production", **longer).stop_seconds == 131
    limits = Limits()
    assert limits.on_disconnect_seconds + limits.close_seconds == 15
    assert Timing().answer_seconds == 4
    assert WorkerController().stop_seconds == stop_settings.WORKERS_SECONDS
