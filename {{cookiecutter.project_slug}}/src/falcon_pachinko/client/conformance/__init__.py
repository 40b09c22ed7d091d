"""Compare a server with the protocol: ``python -m falcon_pachinko conformance URL``."""
