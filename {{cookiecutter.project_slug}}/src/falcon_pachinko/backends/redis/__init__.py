"""Rooms shared by many processes over Redis or Valkey; import only :mod:`.backend` and :mod:`.doctor` from outside."""
