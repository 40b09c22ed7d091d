"""nginx with the configuration of a project's cluster."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from .documents import replace_all
from .processes import listens, running, wait_until


@contextlib.contextmanager
def running_nginx(
    node_ports: list[int],
    *changes: tuple[str, str],
    nginx: str,
    project: Path,
    folder: Path,
    port: int,
    environment: dict[str, str],
) -> Iterator[int]:
    """Run nginx with ``deploy/nginx.conf``, whose three nodes listen on ports of this machine."""
    configuration = folder / "nginx.conf"
    text = (project / "deploy/nginx.conf").read_text("utf-8")
    nodes = dict(re.findall(r"server (([\d.]+:\d+)) ", text))
    assert len(nodes) == len(node_ports)
    addresses = [
        (node, f"127.0.0.1:{node_port}")
        for node, node_port in zip(sorted(nodes), node_ports, strict=True)
    ]
    text = replace_all(
        text,
        *changes,
        *addresses,
        ("listen 8080;", f"listen 127.0.0.1:{port};"),
        ("listen 8080 default_server;", f"listen 127.0.0.1:{port} default_server;"),
        (" /tmp/", f" {folder}/"),
        (" /dev/stdout paths;", f" {folder}/access.log paths;"),
    )
    configuration.write_text(text, "utf-8")
    # The same command as in the image.
    command = [nginx, "-c", str(configuration), "-g", "daemon off;"]
    with running(command, folder, environment) as proxy:
        wait_until(lambda: listens(port), proxy, folder / "nginx.log")
        yield port
