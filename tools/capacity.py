"""Capacity planning: the nodes and Redis servers for a chat of a given size, and its bottleneck.

    python -m tools.capacity    # the output in docs/scaling.md of a project

The result is calculated, not measured. `MEASURED` was measured value by value at small scale on one
machine: by `make bench` (delivery, receive, idle and connection) and `make sizing`. `ASSUMED` was not
measured. The calculation excludes limits and delays of networks, proxies, load balancers, TLS,
databases, and effects that occur only at a larger scale than measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

SECOND_US = 1_000_000
KIB, GIB = 1024, 1024**3


class Measured(NamedTuple):
    """CPU time in microseconds, and memory."""

    delivery_us: float
    """A node: a message to one member, with 600 connections."""
    delivery_growth: float
    """A node: a message to one member with 19,800 connections, of one with 1,000."""
    idle_us: float
    """A node: an idle connection, each second: its pings and checks."""
    receive_us: float
    """A node: a message from a client, read, decoded, validated and handled."""
    publish_us: float
    """A node: publishing a message to Redis."""
    arrival_us: float
    """A node: receiving a message from Redis, without its deliveries."""
    join_us: float
    """A node: the visit of a client, with handshake, room and presence."""
    redis_publish_us: float
    """Redis: numbering, storing and publishing a message."""
    redis_copy_us: float
    """Redis: each node that a message goes to."""
    redis_join_us: float
    """Redis: the visit of a client."""
    connection_kib: float
    """A node: an idle connection."""
    redis_room_bytes: float
    """Redis: a room with members."""
    redis_member_bytes: float
    """Redis: a user in a room."""
    redis_message_bytes: float
    """Redis: a stored message."""


class Assumed(NamedTuple):
    """Assumptions, to be replaced with the values of a deployment."""

    busy: float = 0.7
    """The used share of a core; the rest is reserved for peaks."""
    node_gib: float = 1.0
    """Memory of a node for its connections. A node is one process, which uses one core."""
    redis_gib: float = 8.0
    """Memory of a Redis server, which uses one core."""
    message_bytes: int = 180
    """A chat message as JSON, with its envelope and position."""
    packet_bytes: int = 70
    """The headers of Ethernet, IP, TCP and WebSocket for one message per packet."""
    publication_bytes: int = 90
    """The overhead of Redis' protocol, the channel and the position."""
    visit_minutes: float = 30.0
    """The duration of a connection."""
    kept_messages: int = 256
    """Stored messages of each room, for nodes that reconnect to Redis."""


class Load(NamedTuple):
    """The clients and their messages."""

    title: str
    connections: int
    room_members: int
    seconds_between: float
    """The interval between messages of a member."""
    room_affinity: bool = False
    """Whether the load balancer routes all members of a room to one node, by the path."""


class Plan(NamedTuple):
    """The resources for a load."""

    load: Load
    messages: float
    deliveries: float
    nodes: int
    nodes_of_each_message: float
    redis_servers: int
    redis_gib: float
    client_gbit: float
    redis_gbit: float
    shares: dict[str, float]
    """The cores of the nodes by kind of work, without the reserve: deliveries to clients, messages
    of clients, copies of messages from Redis, visits of clients, idle connections."""
    redis_cores: float
    nodes_by: str
    """The limiting resource of the nodes: CPU or memory."""
    redis_by: str

    @property
    def bottleneck(self) -> str:
        """The first limit to address; nodes are easier to add than Redis servers."""
        if self.redis_servers > 1:
            return f"Redis, by {self.redis_by}"
        if self.nodes_by == "memory":
            return "memory of the nodes"
        return max(self.shares, key=lambda kind: self.shares[kind])


# With many messages in transit at once between nodes and Redis, as under load.
MEASURED = Measured(
    delivery_us=8,
    delivery_growth=1.46,
    idle_us=10,
    receive_us=20,
    publish_us=24,
    arrival_us=14,
    join_us=1_453,
    redis_publish_us=26,
    redis_copy_us=1.6,
    redis_join_us=526,
    connection_kib=17,
    redis_room_bytes=408,
    redis_member_bytes=259,
    redis_message_bytes=226,
)
# The upper bound: each message waits for the previous one.
ALONE = MEASURED._replace(
    publish_us=117,
    arrival_us=55,
    join_us=2_461,
    redis_publish_us=138,
    redis_copy_us=5.2,
    redis_join_us=1_111,
)
ASSUMED = Assumed()
LOADS = (
    Load("10,000 clients in rooms of 100, one message per client and minute", 10_000, 100, 60),
    Load("100,000 clients, the same", 100_000, 100, 60),
    Load("a million clients, the same", 1_000_000, 100, 60),
    Load(
        "a million clients, the same, each room on one node", 1_000_000, 100, 60, room_affinity=True
    ),
    Load("a million clients in rooms of 10, one message per client and minute", 1_000_000, 10, 60),
    Load(
        "a million clients in rooms of 1,000, one message per client in 10 minutes",
        1_000_000,
        1_000,
        600,
    ),
)


def nodes_of_a_room(nodes: int, members: int) -> float:
    """Return the expected number of nodes with at least one of a room's members."""
    return nodes * (1 - (1 - 1 / nodes) ** members)


def plan(load: Load, measured: Measured = MEASURED, assumed: Assumed = ASSUMED) -> Plan:
    """Return the nodes and Redis servers for a load.

    An additional node receives messages too, so the number of nodes is found iteratively.
    """
    messages = load.connections / load.seconds_between
    joins = load.connections / (assumed.visit_minutes * 60)
    # Each visit is announced to the room twice.
    published = messages + 2 * joins
    deliveries = published * load.room_members
    by_memory = load.connections * measured.connection_kib * KIB / (assumed.node_gib * GIB)
    nodes = 1
    while True:
        spread = 1.0 if load.room_affinity else nodes_of_a_room(nodes, load.room_members)
        shares = {
            "deliveries": deliveries * measured.delivery_us * measured.delivery_growth / SECOND_US,
            "messages": messages * (measured.receive_us + measured.publish_us) / SECOND_US,
            "copies": published * spread * measured.arrival_us / SECOND_US,
            "visits": joins * measured.join_us / SECOND_US,
            "idle": load.connections * measured.idle_us / SECOND_US,
        }
        by_cpu = sum(shares.values()) / assumed.busy
        required = math.ceil(max(by_memory, by_cpu))
        if required <= nodes:
            break
        nodes += 1
    redis_us = published * (measured.redis_publish_us + spread * measured.redis_copy_us)
    redis_cores = (redis_us + joins * measured.redis_join_us) / SECOND_US
    rooms = load.connections / load.room_members
    redis_bytes = (
        rooms * (measured.redis_room_bytes + assumed.kept_messages * measured.redis_message_bytes)
        + load.connections * measured.redis_member_bytes
    )
    redis_gib = redis_bytes / GIB
    redis_by_cpu, redis_by_memory = redis_cores / assumed.busy, redis_gib / assumed.redis_gib
    return Plan(
        load=load,
        messages=messages,
        deliveries=deliveries,
        nodes=nodes,
        nodes_of_each_message=spread,
        redis_servers=math.ceil(max(redis_by_cpu, redis_by_memory)),
        redis_gib=redis_gib,
        client_gbit=deliveries * (assumed.message_bytes + assumed.packet_bytes) * 8 / 1e9,
        redis_gbit=published
        * spread
        * (assumed.message_bytes + assumed.publication_bytes)
        * 8
        / 1e9,
        shares=shares,
        redis_cores=redis_cores,
        nodes_by="memory" if by_memory > by_cpu else "CPU",
        redis_by="memory" if redis_by_memory > redis_by_cpu else "CPU",
    )


def report(found: Plan) -> Iterator[str]:
    """Yield the lines of a report."""
    load = found.load
    yield load.title
    yield (
        f"    {found.messages:,.0f} messages/s, {found.deliveries:,.0f} deliveries/s,"
        f" {found.client_gbit:.2f} Gbit/s to clients"
    )
    shares = ", ".join(f"{kind} {cores:.1f}" for kind, cores in found.shares.items())
    yield f"    nodes: {found.nodes} by {found.nodes_by}; cores: {shares}"
    yield (
        f"    Redis servers: {found.redis_servers} by {found.redis_by}; {found.redis_cores:.1f} cores,"
        f" {found.redis_gib:.1f} GiB, {found.redis_gbit:.2f} Gbit/s to nodes;"
        f" a message goes to {found.nodes_of_each_message:.1f} nodes"
    )
    yield f"    bottleneck: {found.bottleneck}"


def limits(measured: Measured = MEASURED, assumed: Assumed = ASSUMED) -> Iterator[str]:
    """Yield the throughput of one Redis server, by the number of nodes that a message goes to."""
    yield "one Redis server, by the nodes that each message goes to"
    for nodes in (1, 3, 10, 30, 100):
        cost = measured.redis_publish_us + nodes * measured.redis_copy_us
        yield f"    {nodes:>3}: {assumed.busy * SECOND_US / cost:>6,.0f} messages/s"


def main() -> None:
    """Print all reports."""
    for load in LOADS:
        print("\n".join(report(plan(load))))
    unbatched = LOADS[2]._replace(
        title="a million clients in rooms of 100, without batching of messages"
    )
    print("\n".join(report(plan(unbatched, ALONE))))
    print("\n".join(limits()))


if __name__ == "__main__":
    main()
