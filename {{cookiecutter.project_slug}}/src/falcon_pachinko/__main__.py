"""``python -m falcon_pachinko``: commands for who owns a project with this framework in it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .scaffold import command as scaffold
from .support import manifest


def verify(given: argparse.Namespace) -> int:
    """Say which files of the framework were changed by hand; 1 if there are any."""
    try:
        version, found = manifest.differences()
    except (OSError, ValueError) as error:
        print(f"verify: {error}", file=sys.stderr)
        return 2
    if found:
        print("\n".join(found))
        return 1
    print(f"All files are as they came with falcon_pachinko {version}.")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; wrong usage ends with 2 (argparse)."""
    parser = argparse.ArgumentParser("python -m falcon_pachinko", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="command")
    scaffold.add_to(commands)
    what = "say which files of the framework were changed by hand"
    commands.add_parser("verify", help=what, description=what).set_defaults(run=verify)
    given = parser.parse_args(arguments)
    status: int = given.run(given)
    return status


if __name__ == "__main__":
    sys.exit(main())
