"""Schedules of the model test for faults that broke an invariant, and for the faults that did not."""

from __future__ import annotations

from .schedule import (
    ClockJump,
    Cut,
    DeleteKey,
    DeleteRoom,
    DeleteShared,
    EvictRooms,
    FailOver,
    FlushAll,
    Freeze,
    Join,
    Kill,
    Leave,
    Pause,
    Publish,
    PublishDirect,
    PublishExternally,
    ReadMembers,
    Reload,
    Replicate,
    RestartRedis,
    Restore,
    Restrict,
    Schedule,
    Start,
    Step,
    Thaw,
    WrongType,
)

# Two users on two nodes; ann has two connections in one of her rooms.
JOINS: list[Step] = [
    Join("ann", 0),
    Join("bob", 1),
    Join("ann", 1, "b"),
    Join("ann", 0, "b"),
    Publish(0),
    Publish(1, "b"),
]
# Each node and a program publish to both rooms.
MESSAGES: list[Step] = [
    Publish(0),
    Publish(1),
    PublishExternally(),
    Publish(0, "b"),
    Publish(1, "b"),
    PublishExternally("b"),
]
# Longer than the expiry of a node.
LONG = Pause(1.3)
SHORT = Pause(0.3)
# Longer than the time in which the users of a killed node must have left.
EXPIRED = Pause(2.0)
# Longer than the time after a fault in which everything is correct again, and a list is checked.
FORGOTTEN = Pause(2.5)
# A program publishes all the time.
STREAM: list[Step] = [each for _ in range(20) for each in (PublishExternally(), Pause(0.02))]

BANS: list[Step] = [Restrict("ann", 0), Restrict("bob", 1), Restrict("bob", 0, is_banned=False)]

KNOWN_FAULTS = {
    "bans survive FLUSHALL and the death of the node that called": Schedule(
        [*BANS, FlushAll(), LONG, Kill(0), FlushAll(), Start(0)]
    ),
    "bans survive a restart of Redis without data": Schedule([*BANS, RestartRedis(), *MESSAGES]),
    "bans survive a failover to a replica that lacks them": Schedule(
        [Replicate(), *BANS, FailOver(), *MESSAGES]
    ),
    "a node that was cut off gets bans": Schedule([Cut(1), *BANS, LONG, *BANS, Restore(1)]),
    "a node that was cut off does not undo an unban": Schedule(
        [*BANS, Cut(1), LONG, Restrict("ann", 0, is_banned=False), FlushAll(), Restore(1)]
    ),
    "an unban after a loss of all data": Schedule(
        [*BANS, FlushAll(), Restrict("ann", 1, is_banned=False)]
    ),
    "bans while the clock jumps": Schedule(
        [
            Restrict("ann", 0),
            ClockJump(7200.0),
            *BANS,
            ClockJump(-7200.0),
            Restrict("ann", 1, is_banned=False),
            ClockJump(400.0),
        ]
    ),
    "none": Schedule(
        [
            *JOINS,
            Reload("ann", 0),
            Reload("bob", 0),
            ReadMembers(1),
            PublishDirect(0),
            *MESSAGES,
            Leave("ann", "a", grace=True),
            SHORT,
            Join("ann", 1),
            Leave("bob"),
            ReadMembers(0),
        ]
    ),
    "the link of a node fails shortly": Schedule(
        [*JOINS, Cut(1), *MESSAGES, SHORT, Restore(1), *MESSAGES]
    ),
    "the link of a node fails for longer than its expiry": Schedule(
        [*JOINS, Cut(1), LONG, *MESSAGES, Restore(1), *MESSAGES]
    ),
    "the data of a node is held back shortly": Schedule(
        [*JOINS, Cut(1, silent=True), *MESSAGES, SHORT, Restore(1), *MESSAGES]
    ),
    "the data of a node is held back for longer than its expiry": Schedule(
        [*JOINS, Cut(1, silent=True), Pause(0.6), *MESSAGES, LONG, Restore(1), *MESSAGES]
    ),
    "an expired node sends what was held back before it renews": Schedule(
        # NOTE: after the expiry and the next renewal of the other node, and before the cut-off node has
        #   noticed its outage, which is answer_seconds after its first call without a response.
        [
            *JOINS[:2],
            Cut(1, silent=True),
            Pause(0.7),
            Publish(1),
            ReadMembers(0),
            Pause(0.26),
            Restore(1),
        ]
    ),
    "a node is killed": Schedule([*JOINS, Kill(1), *MESSAGES, EXPIRED, ReadMembers(0)]),
    "a node is killed and another takes its place": Schedule(
        [*JOINS, Kill(1), Start(1), Join("bob", 1), *MESSAGES, EXPIRED, ReadMembers(1)]
    ),
    "a user returns to another node after a kill": Schedule(
        [*JOINS, Kill(1), Join("bob", 0), *MESSAGES, LONG]
    ),
    "redis is frozen shortly": Schedule([*JOINS, Freeze(), SHORT, Thaw(), *MESSAGES]),
    "redis is frozen for longer than the expiry": Schedule(
        [*JOINS, Freeze(), Pause(1.8), Thaw(), *MESSAGES]
    ),
    "the only node with members is frozen out": Schedule(
        [Join("ann", 1), Join("bob", 1), Cut(1, silent=True), Pause(2.5), Restore(1), *MESSAGES]
    ),
    "the clock of redis jumps forward": Schedule(
        [*JOINS, ClockJump(400.0), *MESSAGES, Join("cid", 1), *MESSAGES]
    ),
    "the clock of redis jumps forward by hours": Schedule(
        [*JOINS, ClockJump(7200.0), *MESSAGES, SHORT, *MESSAGES]
    ),
    "the clock of redis jumps back": Schedule(
        [*JOINS, ClockJump(-3600.0), *MESSAGES, Kill(1), LONG, *MESSAGES]
    ),
    "the clock of redis jumps back during a grace period": Schedule(
        [*JOINS, Leave("bob", grace=True), ClockJump(-3600.0), LONG, *MESSAGES]
    ),
    "the clock of redis jumps back during the recovery of a room": Schedule(
        [*JOINS, DeleteRoom(), Publish(0), ClockJump(-3600.0), Join("cid", 1), LONG, *MESSAGES]
    ),
    "the keys of a room are deleted after the clock of redis has jumped back": Schedule(
        [*JOINS, ClockJump(-3600.0), SHORT, DeleteRoom(), *MESSAGES, LONG, *MESSAGES]
    ),
    **{
        f"key {index} is deleted": Schedule(
            [*JOINS, DeleteKey(index), *MESSAGES, Leave("ann"), *MESSAGES]
        )
        for index in range(8)
    },
    "the keys of a room are deleted": Schedule(
        [*JOINS, DeleteRoom(), *MESSAGES, Join("cid", 1), *MESSAGES]
    ),
    "a user leaves after the keys of a room are deleted": Schedule(
        [*JOINS, DeleteRoom(), Leave("bob"), Reload("ann", 1), *MESSAGES]
    ),
    "the keys of all rooms are evicted": Schedule(
        [*JOINS, EvictRooms(), *MESSAGES, LONG, *MESSAGES]
    ),
    "flushall": Schedule([*JOINS, FlushAll(), *MESSAGES, Leave("bob"), Join("bob", 0), *MESSAGES]),
    "flushall before a second connection": Schedule(
        [*JOINS, FlushAll(), Join("ann", 1), Reload("bob", 0)]
    ),
    "a node returns after flushall while another has no link": Schedule(
        [*JOINS, Cut(1), FlushAll(), LONG, Cut(0), Restore(1), Pause(0.5), Restore(0), LONG]
    ),
    "a node returns after its expiry and a loss with a user that has left": Schedule(
        [*JOINS, Leave("bob", grace=True), Cut(1), LONG, DeleteRoom(), Restore(1), LONG]
    ),
    "redis restarts empty": Schedule([*JOINS, RestartRedis(), *MESSAGES, SHORT, *MESSAGES]),
    "a program publishes while redis restarts empty": Schedule(
        [*JOINS, *STREAM, RestartRedis(), *STREAM, *MESSAGES]
    ),
    "an expired node admits a user during its outage and is killed": Schedule(
        [*JOINS, Cut(1), LONG, Join("cid", 1), Restore(1), Pause(0.05), Kill(1), EXPIRED]
    ),
    "a user leaves while redis restarts empty": Schedule(
        [*JOINS, RestartRedis(), Leave("bob"), *MESSAGES, LONG, *MESSAGES]
    ),
    "an evicted node admits a user and is killed": Schedule(
        [*JOINS, Cut(1), LONG, Restore(1), Join("cid", 1), Kill(1), EXPIRED, ReadMembers(0)]
    ),
    "a node dies and what belongs to no room is lost": Schedule(
        [*JOINS, Kill(1), DeleteShared(), EXPIRED, ReadMembers(0), ReadMembers(0, "b")]
    ),
    "a user joins while a node has no link": Schedule(
        [*JOINS, Cut(1), Join("cid", 1), Join("cid", 1, "b"), SHORT, Restore(1), *MESSAGES]
    ),
    "a user joins while redis is frozen": Schedule(
        [*JOINS, Freeze(), Pause(1.3), Join("cid", 1), Join("cid", 1, "b"), Thaw(), *MESSAGES]
    ),
    "failover to a replica that lags": Schedule(
        [*JOINS, Replicate(), *MESSAGES, Leave("bob"), Join("cid", 0), FailOver(), *MESSAGES]
    ),
    "failover to a replica that does not know that a grace period has ended": Schedule(
        [
            *JOINS,
            Join("cid", 1),
            Leave("bob", grace=True),
            Replicate(),
            LONG,
            FailOver(),
            LONG,
            *MESSAGES,
        ]
    ),
    "the keys of a room have a wrong type": Schedule(
        [*JOINS, WrongType(), *MESSAGES, Join("cid", 1), SHORT, *MESSAGES]
    ),
    "a node that is cut off is the only one that knows what a failover has lost": Schedule(
        # NOTE: the positions of the replacement repeat lost ones, and no node is there that knows these.
        [
            Join("ann", 1, "b"),
            Publish(1, "b"),
            Replicate(),
            Publish(1, "b"),
            Publish(1, "b"),
            Cut(1),
            FailOver(),
            *[PublishExternally("b")] * 3,
            Restore(1),
            SHORT,
            PublishExternally("b"),
        ]
    ),
    "others publish as much as a failover has lost before the presence is compared": Schedule(
        [
            *JOINS,
            Replicate(),
            Join("cid", 1),
            Leave("bob"),
            Cut(0),
            Cut(1),
            FailOver(),
            *[PublishExternally()] * 3,
            Restore(0),
            SHORT,
            Restore(1),
            *MESSAGES,
        ]
    ),
    **{
        f"a failover does not know that a node's last user has left: {name}": (
            Schedule(
                [*before, Replicate(), Leave("bob", "b"), FailOver(), PublishExternally(), *after]
            )
        )
        for name, before, after in (
            ("the room is read later", [Join("bob", 1, "b")], [FORGOTTEN, ReadMembers(0, "b")]),
            (
                "others are in the room",
                [Join("bob", 1, "b"), Join("ann", 0, "b")],
                [*MESSAGES, FORGOTTEN, ReadMembers(0, "b")],
            ),
            (
                "the node gets another user in the room",
                [Join("bob", 1, "b")],
                [Join("cid", 1, "b"), *MESSAGES, FORGOTTEN, ReadMembers(1, "b")],
            ),
        )
    },
}
