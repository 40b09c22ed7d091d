"""Rooms shared by many processes over Redis or Valkey; only ``backend`` is public."""
