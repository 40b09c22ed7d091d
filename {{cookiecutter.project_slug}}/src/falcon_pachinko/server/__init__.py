"""What a server does before the application gets a connection: counts, forwarded addresses, bounds."""
