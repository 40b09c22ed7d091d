"""Rooms shared by many processes over Redis or Valkey; import only :mod:`.backend` from outside."""
