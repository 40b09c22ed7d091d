"""The faults that chaos tests inject, and the plan of a period."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..support.server_clock import can_jump
from . import node_faults, redis_faults, service_faults
from .cluster import NODES, Cluster, Fault


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: its function, and the bounds of its duration."""

    inject: Callable[[Cluster, Fault], Awaitable[None]]
    min_seconds: float = 0.0
    max_seconds: float = 0.0


# The durations lie below and above the times of ChaosTiming: expiry 3 s, answer 1 s, grace period 0.5 s.
FAULTS = {
    "kill node": Kind(node_faults.kill, 0.0, 5.0),
    "kill node and lose the keys of all nodes": Kind(node_faults.kill_with_keys, 0.0, 5.0),
    "rolling restart": Kind(node_faults.restart_all),
    "pause node briefly": Kind(node_faults.pause, 0.2, 1.5),
    "pause node for long": Kind(node_faults.pause, 3.8, 5.5),
    "reset connections": Kind(node_faults.reset_connections),
    "hold both directions briefly": Kind(node_faults.hold, 0.3, 2.0),
    "hold both directions": Kind(node_faults.hold, 3.8, 5.5),
    "hold replies": Kind(node_faults.hold, 1.5, 5.0),
    "hold requests": Kind(node_faults.hold, 1.5, 5.0),
    "disconnect a user of a node that is cut off": Kind(node_faults.close_while_cut, 1.5, 5.0),
    "close a room of a node that is cut off": Kind(node_faults.close_while_cut, 1.5, 5.0),
    "kill subscribers": Kind(redis_faults.kill_subscribers),
    "kill clients": Kind(redis_faults.kill_clients),
    "small buffers": Kind(redis_faults.shrink_buffers, 0.5, 1.5),
    "freeze redis briefly": Kind(redis_faults.freeze, 0.3, 2.0),
    "freeze redis for long": Kind(redis_faults.freeze, 3.8, 5.5),
    "slow command": Kind(redis_faults.run_slow_command, 0.3, 2.5),
    "restart redis": Kind(redis_faults.restart, 0.0, 2.0),
    "fail over with a lag": Kind(redis_faults.fail_over, 0.2, 1.5),
    "clock jumps ahead": Kind(redis_faults.jump, 5.0, 7200.0),
    "clock jumps back": Kind(redis_faults.jump, 5.0, 7200.0),
    "delete the keys of a room": Kind(redis_faults.delete_room),
    "delete one key": Kind(redis_faults.delete_key),
    "evict half of the keys": Kind(redis_faults.evict),
    "keys of a wrong type": Kind(redis_faults.replace_room),
    "flush all": Kind(redis_faults.flush),
    "kill the node of a crowd": Kind(service_faults.fill_room),
    "kill an evicted node that admitted users": Kind(service_faults.kill_evicted, 3.8, 5.5),
    "pause all nodes until keys expire": Kind(service_faults.pause_all, 310.0, 310.0),
    "miss megabytes in many rooms": Kind(service_faults.miss_megabytes, 1.0, 2.5),
    "another service fills redis, which evicts": Kind(service_faults.share_memory, 0.5, 2.0),
    "another service with the same prefix": Kind(service_faults.run_other_service),
    "several processes without redis": Kind(service_faults.start_without_redis),
}
NEED_FAKETIME = {"clock jumps ahead", "clock jumps back", "pause all nodes until keys expire"}
NEED_COOKIECUTTER = {"several processes without redis"}


def possible_faults(program: str) -> list[str]:
    """Return the kinds of faults that this machine can inject into a server program."""
    impossible = set() if can_jump(program) else NEED_FAKETIME
    if not service_faults.can_bake():
        impossible = impossible | NEED_COOKIECUTTER
    return sorted(FAULTS.keys() - impossible)


def plan(rng: random.Random, seconds: float, program: str) -> list[Fault]:
    """Plan the faults of a period: all kinds in turn, in a new random order each time."""
    names = possible_faults(program)
    gap_seconds = min(2.5, max(1.0, seconds / len(names)))
    faults: list[Fault] = []
    at = 0.0
    while True:
        for name in rng.sample(names, len(names)):
            at += gap_seconds * rng.uniform(0.3, 1.6)
            if at > seconds:
                return faults
            kind = FAULTS[name]
            duration = rng.uniform(kind.min_seconds, kind.max_seconds)
            faults.append(Fault(at, name, rng.randrange(NODES), duration))


async def inject(cluster: Cluster, fault: Fault) -> None:
    """Inject a fault and end it after its duration."""
    await FAULTS[fault.kind].inject(cluster, fault)
