"""The compared servers, one file each; all serve ``/room/{room}``, some ``/echo``."""
