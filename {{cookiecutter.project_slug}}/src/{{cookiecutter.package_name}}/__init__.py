"""A chat service over WebSockets; :mod:`.app` creates its parts."""
