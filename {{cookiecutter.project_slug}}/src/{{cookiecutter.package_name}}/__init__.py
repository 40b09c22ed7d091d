"""A chat service over WebSockets; :mod:`.app` is the map of the program."""
