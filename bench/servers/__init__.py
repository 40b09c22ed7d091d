"""One file per server. Each serves ``/room/{room}`` and, where it is measured, ``/echo``."""
