"""The commands of ``python -m falcon_pachinko``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .scaffold import command as scaffold
from .support import manifest


def verify(given: argparse.Namespace) -> int:
    """List the changed files of the framework; return 1 if there are any."""
    try:
        version, lines = manifest.differences()
    except (OSError, ValueError) as error:
        print(f"verify: {error}", file=sys.stderr)
        return 2
    if lines:
        print("\n".join(lines))
        return 1
    print(f"All files are unchanged since falcon_pachinko {version}.")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; argparse exits with 2 on wrong usage."""
    parser = argparse.ArgumentParser("python -m falcon_pachinko", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="command")
    scaffold.add_to(commands)
    purpose = "list the files of the framework that were changed"
    commands.add_parser("verify", help=purpose, description=purpose).set_defaults(run=verify)
    given = parser.parse_args(arguments)
    status: int = given.run(given)
    return status


if __name__ == "__main__":
    sys.exit(main())
