"""The rights of a node: one harmless command for each command of the script."""

import re

import pytest

from falcon_pachinko.backends.redis.permissions import harmless_commands, missing_right
from falcon_pachinko.backends.redis.script import LUA
from falcon_pachinko.backends.redis.url import make_client

# Words in capitals in the script that are no commands.
OPTIONS = {
    *("COUNT", "LIMIT", "MAXLEN", "MINID", "NX", "OOM", "PX", "WITHSCORES", "WRONGTYPE", "XX"),
    *("NUMSUB", "SHARDNUMSUB"),
}


def test_each_command_of_the_script_is_tried() -> None:
    used = set(re.findall(r"'([A-Z]{2,})'", LUA)) - OPTIONS
    tried = {
        command[0]
        for url in ("redis://127.0.0.1", "redis+cluster://127.0.0.1")
        for command in harmless_commands(make_client(url, "chat", 1.0))
    }
    assert used <= tried
    own = {"EVAL", "EVALSHA", "PING", "SUBSCRIBE", "UNSUBSCRIBE", "SSUBSCRIBE", "SUNSUBSCRIBE"}
    assert tried - used == own


@pytest.mark.parametrize(
    ("error", "right"),
    [
        ("NOPERM User chat has no permissions to run the 'hset' command", "+hset"),
        ("User chat has no permissions to run the 'hset' command", "+hset"),
        ("NOPERM No permissions to access a key", "~key:*"),
        ("No permissions to access a channel", "&key:*"),
        ("unknown command 'HSET', with args beginning with: ", "+hset"),
        ("MOVED 12 127.0.0.1:7000", ""),
        ("OOM command not allowed when used memory > 'maxmemory'.", ""),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", ""),
    ],
)
def test_an_error_names_the_missing_right(error: str, right: str) -> None:
    assert missing_right("key", "HSET", error) == right
