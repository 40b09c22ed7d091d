"""Bounds for the figures of the framework, each relative to a figure of the same rounds."""

from .goal import Goal

NAMES = {
    "push": "push",
    "batched": "push through io_uring",
    "bare": "bare",
    "floor": "send(2) in a C loop",
    "bun": "Bun publish",
    "picows": "picows",
    "socketify": "socketify publish",
    "ws": "Node ws",
    "starlette": "Starlette's send_json",
    "socketio": "python-socketio",
    "channels": "Django Channels",
}


def fan_out(what: str, workload: str, server: str, against: str, at_most: float) -> Goal:
    """Return a goal for the CPU time per delivery against another server."""
    title = f"{what}, {NAMES[server]}, against {NAMES[against]}"
    return Goal(title=title, workload=workload, server=server, against=against, at_most=at_most)


TENS = ("fan-out to 10", "fan-out-10")
HUNDREDS = ("fan-out to 100", "fan-out-100")
THOUSANDS = ("fan-out to 1,000", "fan-out-1000")
IN_FLIGHT = ("8 messages in flight", "in-flight")
CONNECTIONS = ("10,000 connections", "connections-10000")

GOALS = (
    fan_out(*HUNDREDS, "push", "floor", 1.15),
    fan_out(*HUNDREDS, "batched", "floor", 1.0),
    fan_out(*THOUSANDS, "push", "floor", 1.2),
    fan_out(*THOUSANDS, "batched", "floor", 0.9),
    fan_out(*TENS, "push", "bun", 1.15),
    fan_out(*TENS, "batched", "bun", 1.1),
    fan_out(*HUNDREDS, "push", "bun", 1.1),
    fan_out(*HUNDREDS, "batched", "bun", 0.95),
    fan_out(*THOUSANDS, "push", "bun", 1.1),
    fan_out(*THOUSANDS, "batched", "bun", 0.8),
    fan_out(*HUNDREDS, "push", "picows", 1.0),
    fan_out(*HUNDREDS, "batched", "picows", 0.9),
    fan_out(*HUNDREDS, "push", "socketify", 1.0),
    fan_out(*HUNDREDS, "batched", "socketify", 0.9),
    fan_out(*IN_FLIGHT, "push", "bun", 1.05),
    fan_out(*IN_FLIGHT, "batched", "bun", 1.0),
    fan_out(*CONNECTIONS, "push", "floor", 1.2),
    fan_out(*CONNECTIONS, "batched", "floor", 1.0),
    fan_out("20,000 connections", "scale", "push", "floor", 1.2),
    Goal(
        title="a delivery with 20,000 connections, push, against 1,000, and the same of the C loop",
        workload="scale",
        figure="cpu_growth",
        against="floor",
        at_most=1.05,
    ),
    Goal(
        title="memory per connection with 20,000 connections, push, against 1,000, and the same of bare",
        workload="scale",
        figure="kib_growth",
        against="bare",
        at_most=1.05,
    ),
    fan_out(*HUNDREDS, "push", "ws", 0.85),
    fan_out(*THOUSANDS, "push", "starlette", 0.45),
    fan_out(*HUNDREDS, "push", "socketio", 1 / 6),
    fan_out(*HUNDREDS, "push", "channels", 1 / 28),
    fan_out("deflate, 1,000 bytes", "deflate-1000", "push", "bare", 0.4),
    fan_out("deflate, 200 bytes", "deflate-200", "push", "bare", 0.4),
    Goal(
        title="bytes of a message of 200 bytes with deflate, against bare",
        workload="deflate-200",
        figure="bytes",
        against="bare",
        at_most=1.1,
    ),
    Goal(
        title="fan-out to 100, portable, against the bare ASGI loop in the same process",
        workload="beside",
        server="portable-beside",
        against="bare-beside",
        at_most=1.08,
    ),
    Goal(
        title="fan-out to 100 on connections that may be in several rooms, against those of one room",
        workload="several-rooms",
        server="push-rooms",
        against="push",
        at_most=1.05,
    ),
    Goal(
        title="a broadcast with exclude_self, against one without, per delivery",
        workload="exclude-self",
        server="push-others",
        against="push",
        at_most=1.01,
    ),
    Goal(
        title="echo with typed dispatch, portable, against a bare ASGI echo",
        workload="echo",
        server="portable",
        against="bare",
        at_most=1.15,
    ),
    Goal(
        title="echo with typed dispatch, push, against a bare ASGI echo",
        workload="echo",
        against="bare",
        at_most=0.75,
    ),
    Goal(
        title="connect and disconnect, push, against bare ASGI",
        workload="connect",
        against="bare",
        at_most=1.3,
    ),
    Goal(
        title="connect and disconnect, push, against bare ASGI, with Python's own settings of the collector",
        workload="connect-default",
        against="bare",
        at_most=1.0,
    ),
    Goal(
        title="an announced join to a room of 2,000, against one of 10 to 30",
        workload="join",
        server="chat",
        figure="join_2000_us",
        against="chat",
        against_figure="join_10_us",
        at_most=3.0,
    ),
    Goal(
        title="memory per idle connection over bare ASGI, KiB, 5,000 connections, push",
        workload="memory",
        figure="kib",
        against="bare",
        difference=True,
        at_most=0.5,
    ),
    Goal(
        title="memory per idle connection over bare ASGI, KiB, 5,000 connections, portable",
        workload="memory",
        server="portable",
        figure="kib",
        against="bare",
        difference=True,
        at_most=5.0,
    ),
    Goal(
        title="p99 of the others with one stalled reader, against none",
        workload="stall",
        figure="p99_ratio",
        at_most=1.15,
    ),
    Goal(
        title="two processes over Valkey, against one without, per delivery, rooms of 100",
        workload="two-processes",
        server="push-two-nodes",
        against="push",
        at_most=1.08,
    ),
    Goal(
        title="two processes over Valkey, with its CPU time, against one without, rooms of 100",
        workload="two-processes",
        server="push-two-nodes",
        figure="total_us",
        against="push",
        at_most=1.15,
    ),
    Goal(
        title="two processes over Valkey, against two of python-socketio",
        workload="two-processes",
        server="push-two-nodes",
        against="socketio-two-nodes",
        at_most=1 / 3,
    ),
    Goal(
        title="two processes over Valkey, against two of Django Channels",
        workload="two-processes",
        server="push-two-nodes",
        against="channels-two-nodes",
        at_most=1 / 10,
    ),
    # About 40 and 35 µs where a broadcast in one process takes 65 to 80 µs.
    Goal(
        title="CPU of two processes per broadcast to two members, against one without Valkey",
        workload="redis-broadcast",
        server="push-two-nodes",
        figure="broadcast_us",
        against="push",
        at_most=1.6,
    ),
    Goal(
        title="CPU of Valkey per broadcast to two members, against that of one process without it",
        workload="redis-broadcast",
        server="push-two-nodes",
        figure="redis_broadcast_us",
        against="push",
        against_figure="broadcast_us",
        at_most=0.45,
    ),
    Goal(
        title="p50 with Valkey at 100 messages a second in one room, against without",
        workload="redis-latency",
        server="push-one-node",
        figure="p50_ms",
        against="push",
        at_most=1.27,
    ),
    Goal(
        title="CPU of publishing, joined per loop iteration, against one awaited PUBLISH each",
        workload="publishing",
        server="joined",
        against="awaited",
        at_most=0.25,
    ),
    Goal(
        title="clients of 1,000 without all 100 missed messages, in the worst round",
        workload="recovery",
        server="recovery",
        figure="incomplete",
        worst=True,
        at_most=0.0,
    ),
    Goal(
        title="p99 of live traffic while 1,000 clients recover 100 messages, against before",
        workload="recovery",
        server="recovery",
        figure="p99_ratio",
        at_most=2.0,
    ),
    Goal(
        title="p99 of live traffic while the clients of a drained node move to it, against before",
        workload="drain",
        server="drain",
        figure="p99_ratio",
        at_most=2.0,
    ),
    Goal(
        title="CPU of a node for a client that joins a room and leaves, above a bare handshake, µs",
        workload="visits",
        server="visits",
        at_most=600.0,
    ),
    Goal(
        title="CPU of Valkey for a client that joins a room and leaves, µs",
        workload="visits",
        server="visits",
        figure="redis_us",
        at_most=150.0,
    ),
)
