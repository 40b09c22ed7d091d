"""How many nodes and engines a chat of a given size takes, and what is used up first.

    python -m tools.capacity    # what docs/scaling.md of a project shows

It is a calculation, not a measurement. Each of `MEASURED` was measured on its own, with small numbers, on one
machine: `make sizing`, and `make bench` for the first two and the connection. `ASSUMED` was not. What it leaves
out: the network's own limits and delays, proxies and load balancers, TLS, databases, and costs that only
show at a size that nobody here has run.
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
    """A node, for a message to one of the members that it has."""
    receive_us: float
    """A node, for a message from a client: read, decoded, checked, handled."""
    publish_us: float
    """A node, to hand a message to the engine."""
    arrival_us: float
    """A node, to take a message from the engine, before it delivers it."""
    join_us: float
    """A node, for a client that comes and goes: handshake, room, presence."""
    join_member_us: float
    """The same, more for each user who is in the room already: the client is told of all."""
    engine_publish_us: float
    """The engine, to number a message, keep it, and publish it."""
    engine_copy_us: float
    """The engine, for each node that a message goes to."""
    engine_join_us: float
    """The engine, for a client that comes and goes."""
    engine_join_member_us: float
    """The same, more for each user who is in the room already."""
    connection_kib: float
    """A node, for an idle connection."""
    engine_room_bytes: float
    """The engine, for a room with somebody in it."""
    engine_member_bytes: float
    """The engine, for each user in a room."""
    engine_message_bytes: float
    """The engine, for each message that it keeps."""


class Assumed(NamedTuple):
    """What a reader should set to what is so in reality."""

    busy: float = 0.7
    """How much of a core is used; the rest is for peaks."""
    node_gib: float = 1.0
    """Memory of a node for its connections. A node is one process, so it has one core."""
    engine_gib: float = 8.0
    """Memory of an engine. It works on one core."""
    message_bytes: int = 180
    """A chat message as JSON, with its envelope and position."""
    packet_bytes: int = 70
    """What Ethernet, IP, TCP and WebSocket add to a message that travels alone."""
    entry_bytes: int = 90
    """What the engine's protocol, channel and position add."""
    visit_minutes: float = 30.0
    """How long a client stays connected."""
    kept_messages: int = 256
    """The engine keeps so many of each room, for nodes whose link was cut, if they were ever said there."""


class Load(NamedTuple):
    """Who is there and what they do."""

    title: str
    connections: int
    room_members: int
    seconds_between: float
    """Between two messages of one member."""
    rooms_at_home: bool = False
    """All members of a room are on one node: the balancer looks at the path. Otherwise anywhere."""


class Plan(NamedTuple):
    """What a load takes."""

    load: Load
    messages: float
    deliveries: float
    nodes: int
    nodes_of_each_message: float
    engines: int
    engine_gib: float
    client_gbit: float
    engine_gbit: float
    shares: dict[str, float]
    """The cores of nodes that each kind of work takes, without the reserve: deliveries to clients, what clients say
    (messages), what comes from the engine (copies), clients that come and go (visits)."""
    engine_cores: float
    nodes_by: str
    """What the nodes are needed for: CPU or memory."""
    engines_by: str

    @property
    def bottleneck(self) -> str:
        """What to look at first: more nodes are easily had, a second engine is not."""
        if self.engines > 1:
            return f"the engine, by {self.engines_by}"
        if self.nodes_by == "memory":
            return "memory of the nodes"
        return max(self.shares, key=lambda kind: self.shares[kind])


# Between nodes and engine many messages are on their way at once, as it is where there is much to do.
MEASURED = Measured(
    delivery_us=10,
    receive_us=30,
    publish_us=15,
    arrival_us=7.3,
    join_us=1_916,
    join_member_us=1.5,
    engine_publish_us=20,
    engine_copy_us=1.1,
    engine_join_us=840,
    engine_join_member_us=2.9,
    connection_kib=22,
    engine_room_bytes=424,
    engine_member_bytes=182,
    engine_message_bytes=218,
)
# Each message waits for the one before: so dear it can be.
ALONE = MEASURED._replace(publish_us=88, arrival_us=40, engine_publish_us=98, engine_copy_us=6.9)
ASSUMED = Assumed()
LOADS = (
    Load("10,000 clients in rooms of 100, each says something once a minute", 10_000, 100, 60),
    Load("100,000 clients, the same", 100_000, 100, 60),
    Load("a million clients, the same", 1_000_000, 100, 60),
    Load(
        "a million clients, the same, each room on one node", 1_000_000, 100, 60, rooms_at_home=True
    ),
    Load("a million clients in rooms of 10, each says something once a minute", 1_000_000, 10, 60),
    Load(
        "a million clients in rooms of 1,000, each says something every 10 minutes",
        1_000_000,
        1_000,
        600,
    ),
)


def nodes_of_a_room(nodes: int, members: int) -> float:
    """How many nodes have at least one of a room's members, who are anywhere."""
    return nodes * (1 - (1 - 1 / nodes) ** members)


def plan(load: Load, measured: Measured = MEASURED, assumed: Assumed = ASSUMED) -> Plan:
    """Find the nodes and engines that a load takes.

    Each node that joins makes messages go to more nodes, which takes nodes: so it is found step by step.
    """
    messages = load.connections / load.seconds_between
    joins = load.connections / (assumed.visit_minutes * 60)
    # Of each visit the room is told twice.
    said = messages + 2 * joins
    deliveries = said * load.room_members
    join_us = measured.join_us + load.room_members * measured.join_member_us
    engine_join_us = measured.engine_join_us + load.room_members * measured.engine_join_member_us
    by_memory = load.connections * measured.connection_kib * KIB / (assumed.node_gib * GIB)
    nodes = 1
    while True:
        spread = 1.0 if load.rooms_at_home else nodes_of_a_room(nodes, load.room_members)
        shares = {
            "deliveries": deliveries * measured.delivery_us / SECOND_US,
            "messages": messages * (measured.receive_us + measured.publish_us) / SECOND_US,
            "copies": said * spread * measured.arrival_us / SECOND_US,
            "visits": joins * join_us / SECOND_US,
        }
        by_cpu = sum(shares.values()) / assumed.busy
        wanted = math.ceil(max(by_memory, by_cpu))
        if wanted <= nodes:
            break
        nodes += 1
    engine_us = said * (measured.engine_publish_us + spread * measured.engine_copy_us)
    engine_cores = (engine_us + joins * engine_join_us) / SECOND_US
    rooms = load.connections / load.room_members
    engine_bytes = (
        rooms * (measured.engine_room_bytes + assumed.kept_messages * measured.engine_message_bytes)
        + load.connections * measured.engine_member_bytes
    )
    engine_gib = engine_bytes / GIB
    engines_by_cpu, engines_by_memory = engine_cores / assumed.busy, engine_gib / assumed.engine_gib
    return Plan(
        load=load,
        messages=messages,
        deliveries=deliveries,
        nodes=nodes,
        nodes_of_each_message=spread,
        engines=math.ceil(max(engines_by_cpu, engines_by_memory)),
        engine_gib=engine_gib,
        client_gbit=deliveries * (assumed.message_bytes + assumed.packet_bytes) * 8 / 1e9,
        engine_gbit=said * spread * (assumed.message_bytes + assumed.entry_bytes) * 8 / 1e9,
        shares=shares,
        engine_cores=engine_cores,
        nodes_by="memory" if by_memory > by_cpu else "CPU",
        engines_by="memory" if engines_by_memory > engines_by_cpu else "CPU",
    )


def report(found: Plan) -> Iterator[str]:
    """What a load takes, in lines for people."""
    load = found.load
    yield load.title
    yield (
        f"    {found.messages:,.0f} messages/s, {found.deliveries:,.0f} deliveries/s,"
        f" {found.client_gbit:.2f} Gbit/s to clients"
    )
    shares = ", ".join(f"{kind} {cores:.1f}" for kind, cores in found.shares.items())
    yield f"    nodes: {found.nodes} by {found.nodes_by}; cores: {shares}"
    yield (
        f"    engines: {found.engines} by {found.engines_by}; {found.engine_cores:.1f} cores,"
        f" {found.engine_gib:.1f} GiB, {found.engine_gbit:.2f} Gbit/s to nodes;"
        f" a message goes to {found.nodes_of_each_message:.1f} nodes"
    )
    yield f"    bottleneck: {found.bottleneck}"


def limits(measured: Measured = MEASURED, assumed: Assumed = ASSUMED) -> Iterator[str]:
    """How much one engine does, by the number of nodes that a message goes to."""
    yield "one engine, by the nodes that each message goes to"
    for nodes in (1, 3, 10, 30, 100):
        cost = measured.engine_publish_us + nodes * measured.engine_copy_us
        yield f"    {nodes:>3}: {assumed.busy * SECOND_US / cost:>6,.0f} messages/s"


def main() -> None:
    """Print all of it."""
    for load in LOADS:
        print("\n".join(report(plan(load))))
    dear = LOADS[2]._replace(title="a million clients in rooms of 100, if every message came alone")
    print("\n".join(report(plan(dear, ALONE))))
    print("\n".join(limits()))


if __name__ == "__main__":
    main()
