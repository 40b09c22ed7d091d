"""A chat service over WebSockets; :mod:`.app` creates its parts."""

from .own_framework import check_framework

check_framework()
