"""The settings of the stop: how the clients of a process move to other nodes, and how long the whole takes."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from falcon_pachinko.backends.timing import ANSWER_SECONDS
from falcon_pachinko.limits import DEFAULT_LIMITS
from falcon_pachinko.server.drain import DEFAULT_CONNECTIONS_PER_SECOND, DrainPolicy

# The time that a worker has to end, by default of WorkerController.
WORKERS_SECONDS = 10.0
# For the server's own steps and the last spans of traces.
MARGIN_SECONDS = 1.0

# Without users that other nodes could take, nobody waits for a drain.
OUTSIDE_PRODUCTION = {"drain_delay_seconds": 0.0, "drain_seconds": 0.0}


class StopSettings(BaseSettings):
    """The settings of the stop; those of a drain have other defaults in production than elsewhere."""

    environment: Literal["development", "test", "production"] = "production"
    drain_delay_seconds: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    drain_seconds: float = Field(default=20.0, ge=0, allow_inf_nan=False)
    drain_connections_per_second: float = Field(
        default=DEFAULT_CONNECTIONS_PER_SECOND, gt=0, allow_inf_nan=False
    )
    graceful_shutdown_seconds: int = Field(default=20, gt=0)

    @property
    def production(self) -> bool:
        """Whether the service is public: no sign-in by name, and the session cookie is for HTTPS only."""
        return self.environment == "production"

    @property
    def drain(self) -> DrainPolicy:
        """How the clients of a process that stops move to other nodes."""
        return DrainPolicy(
            delay_seconds=self.drain_delay_seconds,
            seconds=self.drain_seconds,
            connections_per_second=self.drain_connections_per_second,
        )

    @property
    def stop_seconds(self) -> int:
        """The longest time from SIGTERM to the end; a supervisor that kills the process waits as long.

        It is the value of ``stop_grace_period``, ``terminationGracePeriodSeconds`` and ``TimeoutStopSec``.
        """
        return math.ceil(
            self.drain_delay_seconds
            + self.drain_seconds
            + self.graceful_shutdown_seconds
            + DEFAULT_LIMITS.on_disconnect_seconds
            + DEFAULT_LIMITS.close_seconds
            + WORKERS_SECONDS
            + ANSWER_SECONDS
            + MARGIN_SECONDS
        )

    @model_validator(mode="before")
    @classmethod
    def set_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Let a service that is not in production stop at once."""
        if values.get("environment", "production") == "production":
            return values
        return OUTSIDE_PRODUCTION | values
