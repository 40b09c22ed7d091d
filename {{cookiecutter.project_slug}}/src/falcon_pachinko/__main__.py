"""``python -m falcon_pachinko``: commands for who owns a project with this framework in it."""

from __future__ import annotations

import argparse
import sys

from . import manifest


def verify() -> int:
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


def main() -> int:
    """Run the command that was asked for; its exit status."""
    parser = argparse.ArgumentParser("python -m falcon_pachinko")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("verify", help="say which files of the framework were changed by hand")
    parser.parse_args()
    return verify()


if __name__ == "__main__":
    sys.exit(main())
