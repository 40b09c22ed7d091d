"""Helpers without knowledge of WebSockets: tasks, loop-local objects, checksums of the vendored files."""
