"""The Lua script that runs in Redis or Valkey: a batch of operations per call, each one atomic.

A call passes operations in msgpack and a deadline. The script returns one result per operation and the
server's time, so that all operations of a loop iteration share one round trip. After the deadline it does
nothing and returns the time alone. A room's keys have the room as hash tag, so that they and its channel
are in one slot of a cluster:

- ``<prefix>:{<room>}:m``, a hash: ``e`` the epoch, ``o`` the offset, ``n``, ``a`` and ``r`` the messages,
  milliseconds and bytes of the history, ``f:<name>`` the fencing token of each worker that has published here;
  ``b`` the bytes published in the epoch, ``c`` those of them before the oldest message when the stream was last
  measured, ``q`` the number of bytes at which it is measured again, ``x`` the time at which its life is extended
  again; ``p`` while it has members; ``g`` the number of the latest generation of its presence, and ``l`` that at its
  creation or at the last loss of its presence: times that do not go back with the clock; ``y`` the time until which new
  users wait, because the room may have been lost, with a fraction; ``u`` the replication id of the server that has
  numbered it: under another one, which may have lost some numbers, a new epoch begins; ``d`` an epoch, and the
  offsets of the publications that were last retracted in it;
- ``<prefix>:{<room>}:s``, a stream: the id is ``<offset>-1``, ``t`` the time, ``d`` the publication, ``b`` the
  bytes published up to and with it;
- ``<prefix>:{<room>}:n``, a sorted set of the nodes that have members in the room, by the time at which the
  lease of each ends; 0 for a node whose users are being removed;
- ``<prefix>:{<room>}:p``, a hash: one presence entry per user (field ``u<user>``) or per connection without a user
  (``c<connection>``), with the node of each connection (``c``), the place in the order of joining (``s``, the time in
  microseconds), the leave message (``l``), during the grace period its end (``g``) and the node that ends it (``n``),
  the join message while it waits (``j``), and the record of each connection that has had one with its version
  (``m``: ``[version, JSON]``, without JSON after it was removed);
  ``d<node>`` the sum of the hashes of a node's connections and of the versions of their records; ``r`` if a record
  was stored; ``g`` the generation; ``w`` the time until which entries may be missing after a loss; ``v`` the version
  of the list, another one after each change without an announcement;
  ``z`` the time until which expired nodes are removed without announcements, after a loss of
  the last changes, and ``s<node>`` after that has begun for a node; ``l<node>`` while a node whose users have left
  sends its list; ``u`` the replication id of the server: under another one, which may have lost some changes, all
  nodes send their lists;
- ``<prefix>:{<room>}:o``, a sorted set of the users by their places, and the empty name;
- ``<prefix>:{<room>}:k``, a sorted set of the entries of each node, and the empty name.

The empty names show that a key was not lost and created again since.

The keys of the nodes are ``<prefix>:{%nodes}:n``, a sorted set of nodes (``<protocol>:<node>``) by the time at which
each expires, with the empty name after one has stopped in order, ``<prefix>:{%nodes}:w`` after a loss of this list, and
``<prefix>:{%nodes}:r:<node>``, the rooms where a node has members. ``<prefix>:{%nodes}:c`` is a hash of the commands to
all nodes by id, and ``<prefix>:{%nodes}:k:<id>`` the set of the nodes that have executed one. Leases of workers are
``<prefix>:{%nodes}:l:<name>``; the hash ``<prefix>:{%nodes}:f`` holds their last tokens,
``<prefix>:{%nodes}:s:<name>`` the schedules of their holders: for each name ``<last tick> <interval>``. Unless Redis is
a cluster, the sorted sets ``<prefix>:{%nodes}:h`` and ``<prefix>:{%nodes}:hx`` have the rooms by the bytes of their
streams and by the time at which these expire, and ``<prefix>:{%nodes}:hb`` is the sum of the bytes.

``<prefix>:{%nodes}:b`` is a hash of the restrictions of users and sessions. A field is the kind, the user or session and
the room, with line feeds in between; its value ``<version> <end> <kept until> <issued until>``, see
:class:`~falcon_pachinko.backends.restriction_entry.RestrictionEntry`; these times are Unix milliseconds on the clocks of
the nodes, except for the version. The field ``digest`` is the sum of the hashes of all others. The key lives until the
last of them is not kept any more.

The connections of a user have a slot of their own: ``<prefix>:{%user:<user>}:c`` is a hash of ``<number of connections>
<time of writing>`` for each node. It expires ``USER_LEASES`` leases after the last writing.

So has a ticket: ``<prefix>:{%ticket:<SHA-256 of the ticket>}:t`` is ``<time of issue> <end>
<replication id of the server>``, a line feed and the value, until it is redeemed or its time is over; under another
server, which may have old data, it is void.

So have the requests of a user that are handled once, or those of a client without a user, under the SHA-256 of the
user or the client: ``<prefix>:{%once:<SHA-256>}:r:<client>`` is a hash of requests by reference, with the size of all
in the field without a name, ``<prefix>:{%once:<SHA-256>}:o:<client>`` a sorted set of the references by the time of
their last change, and ``<prefix>:{%once:<SHA-256>}:i`` a sorted set of the clients by the time of their last one; see
``once.lua``.

All other times are the server's, in milliseconds: the clocks of the nodes need not agree.

A message on the channel of a room begins with a line: ``<epoch>:<offset>:<1 if clients get the position>``, followed
by ``:+<key>``, ``:-<key>`` or ``:*<key>`` if a user has joined or left with it, or has another record, and for ``+``
and ``*`` by the user's records, each as a tab, the connection, a tab and the JSON; ``-`` for a message without a
position; ``!lost`` if presence was lost, ``!changed:<version>`` if users were removed or entered without announcements,
and ``!stop:<milliseconds>`` if a node stops, all without a message. On the channel of all nodes a command begins with
``!command:<id>``, and the field and the value of a restriction with ``!restrict:<id>``, each on a line.

An operation takes at most ten arguments, whose keys share one hash tag. A Lua file may use the local
functions of earlier ones; ``leases.lua`` is the last.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from ...history import MAX_RETRACTED
from ..once import MAX_CLIENTS, MAX_REPLIES, MAX_REPLY_BYTES
from ..restriction_entry import MAX_RESTRICTIONS, MAX_WITH_REVOCATIONS

ENCODE = msgspec.msgpack.Encoder().encode
# The errors of values that have no encoding: a surrogate in a text, an integer of more than 64 bits.
ENCODING_ERRORS = (UnicodeEncodeError, OverflowError)
NO_OPERATIONS = ENCODE([])
# SECURITY: the largest integer that is exact in Lua; a client may name a larger one, also of more than 64 bits.
MAX_INTEGER = 2**53

# NOTE: not the tag or its beginning of any room, because hash_tag escapes %.
NODES = "{%nodes}"
USERS = "{%user:"
TICKETS = "{%ticket:"
ONCE = "{%once:"

# The minimum that a room's stream keeps, with or without a history, so that a node can resume after an outage.
MIN_STREAM_MESSAGES = 256
MIN_STREAM_MS = 60_000

# The maximum size of the messages in the stream of a room without a history.
MAX_STREAM_BYTES = 1024 * 1024

# The default bound of all histories in a Redis or Valkey server.
DEFAULT_REDIS_BYTES = 128 * 1024 * 1024

# What a message and a stream take in Redis besides the encoded messages (measured: 59 bytes, and 4.6 KiB because the
# last block of a stream is allocated in advance; for messages of about 1 KiB the allocator takes up to 20 % more).
ENTRY_OVERHEAD_BYTES = 64
STREAM_OVERHEAD_BYTES = 5 * 1024

# The maximum number of rooms that one operation shortens, or forgets.
MAX_TRIMMED_ROOMS = 16
MAX_EXPIRED_ROOMS = 500

# Redis deletes a schedule after this number of intervals without a tick, but not before ROOM_TTL_MS.
SCHEDULE_INTERVALS = 3

# Lua's unpack accepts a few thousand values.
ROOMS_PER_OPERATION = 500

# The bounds of a part of a node's list of rooms, and of what one operation reads or changes in a room, so that no call
# blocks Redis for more than a few milliseconds (measured: 50 µs for each user that leaves with a message, 10 µs for
# each user that is read with records).
ROOMS_PER_SCAN = 1_000
ENTRIES_PER_SLICE = 32
MESSAGES_PER_READ = 100
RECORDS_PER_READ = 250
MESSAGES_PER_PIECE = 1_000
BYTES_PER_PIECE = 128 * 1024

# How long commands to all nodes are kept, for those that are cut off, and how many; for how long their confirmations.
COMMAND_SECONDS = 3_600
MAX_COMMANDS = 1_000
CONFIRMATION_MS = 60_000

# The count of a user's connections on a node is a lease of so many leases of a room; it is renewed after a third of it.
USER_LEASES = 10

# The number of restrictions that one operation reads or writes (measured: 200 take 1.2 ms to write, 1.5 ms to remove,
# 0.3 ms to read).
RESTRICTIONS_PER_SLICE = 200

# For how long new users wait in a room that was created though other nodes have subscribed to it: usually because these
# open it at the same time.
SUSPICION_MS = 500

# The digest of a node that has to send its list, also after connections were added to it: those of lists are positive.
NO_DIGEST = -(2**52)

# Nodes of different versions of the script's keys and formats do not share a prefix.
PROTOCOL = 3

# Redis deletes the keys of a room this long after the last refresh by a node that has subscribed to it.
ROOM_TTL_MS = 300_000


def raw(data: bytes | None) -> msgspec.Raw | None:
    """Encode bytes as a msgpack str, which need not be UTF-8: Lua's msgpack does not know bin."""
    if data is None:
        return None
    return msgspec.Raw(b"\xdb" + len(data).to_bytes(4, "big") + data)


def hash_tag(room: str) -> str:
    """Return the hash tag of a room; % and braces are escaped, as a tag ends at the first brace."""
    return "{" + escape(room) + "}"


def user_tag(user: str) -> str:
    """Return the hash tag of a user, which no room and not the nodes have."""
    return USERS + escape(user) + "}"


def ticket_tag(ticket: str) -> str:
    """Return the hash tag of a ticket; Redis does not have the ticket itself."""
    return TICKETS + hashlib.sha256(ticket.encode(errors="replace")).hexdigest() + "}"


def once_tag(user: str | None, client: str) -> str:
    """Return the hash tag of the requests of a user, or of a client without a user, that are handled once."""
    owner = f"c{client}" if user is None else f"u{user}"
    return ONCE + hashlib.sha256(owner.encode(errors="surrogatepass")).hexdigest() + "}"


def escape(name: str) -> str:
    """Escape % and braces."""
    return name.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")


def room_of(tag: str) -> str:
    """Return the room of a hash tag."""
    return tag[1:-1].replace("%7D", "}").replace("%7B", "{").replace("%25", "%")


CONSTANTS = {
    "MIN_STREAM_MESSAGES": MIN_STREAM_MESSAGES,
    "MIN_STREAM_MS": MIN_STREAM_MS,
    "MAX_STREAM_BYTES": MAX_STREAM_BYTES,
    "ENTRY_OVERHEAD_BYTES": ENTRY_OVERHEAD_BYTES,
    "STREAM_OVERHEAD_BYTES": STREAM_OVERHEAD_BYTES,
    "MAX_TRIMMED_ROOMS": MAX_TRIMMED_ROOMS,
    "MAX_EXPIRED_ROOMS": MAX_EXPIRED_ROOMS,
    "ROOM_TTL_MS": ROOM_TTL_MS,
    "PROTOCOL": PROTOCOL,
    "SUSPICION_MS": SUSPICION_MS,
    "SCHEDULE_INTERVALS": SCHEDULE_INTERVALS,
    "ROOMS_PER_SCAN": ROOMS_PER_SCAN,
    "ENTRIES_PER_SLICE": ENTRIES_PER_SLICE,
    "MESSAGES_PER_READ": MESSAGES_PER_READ,
    "MAX_RETRACTED": MAX_RETRACTED,
    "RECORDS_PER_READ": RECORDS_PER_READ,
    "MESSAGES_PER_PIECE": MESSAGES_PER_PIECE,
    "BYTES_PER_PIECE": BYTES_PER_PIECE,
    "COMMAND_MS": COMMAND_SECONDS * 1000,
    "MAX_COMMANDS": MAX_COMMANDS,
    "CONFIRMATION_MS": CONFIRMATION_MS,
    "USER_LEASES": USER_LEASES,
    "NO_DIGEST": f"'{NO_DIGEST}'",
    "MAX_RESTRICTIONS": MAX_RESTRICTIONS,
    "MAX_WITH_REVOCATIONS": MAX_WITH_REVOCATIONS,
    "RESTRICTIONS_PER_SLICE": RESTRICTIONS_PER_SLICE,
    "MAX_REPLIES": MAX_REPLIES,
    "MAX_REPLY_BYTES": MAX_REPLY_BYTES,
    "MAX_CLIENTS": MAX_CLIENTS,
}
FILES = (
    "start",
    "history",
    "creation",
    "publish",
    "records",
    "presence",
    "rooms",
    "room_leases",
    "nodes",
    "commands",
    "restrictions",
    "users",
    "tickets",
    "once",
    "leases",
)


def join_files() -> str:
    """Return the files as one script, with the values of the constants.

    PERF: each constant as a local of the script would cost its functions an upvalue when they are created, in each call.
    """
    folder = Path(__file__).with_name("lua")
    text = "\n".join(folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in FILES)
    return re.sub(r"\b[A-Z_]{3,}\b", lambda found: str(CONSTANTS.get(found[0], found[0])), text)


LUA = join_files()
SHA = hashlib.sha1(LUA.encode(), usedforsecurity=False).hexdigest()
