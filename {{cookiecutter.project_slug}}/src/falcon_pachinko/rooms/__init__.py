"""Rooms: members, fan-out, and the manager that applications call."""
