"""The garbage collector's settings, the same for all servers in Python."""

import sys

# An argument of every server in Python: Python's own settings.
DEFAULT_COLLECTOR = "--default-collector"


def set_collector() -> None:
    """Set the collector as a service of the template does, unless an argument says otherwise.

    Call it when the application is loaded and before serving.
    """
    if DEFAULT_COLLECTOR not in sys.argv:
        # NOTE: only servers have the framework on their path; this module is also read by what starts them.
        from falcon_pachinko.uvicorn.gc_tuning import freeze_startup_objects

        freeze_startup_objects()
