"""The command ``new``, which writes a resource into a project; not part of a running service."""
