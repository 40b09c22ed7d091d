"""The attributes of uvicorn's WebSocket protocol that the framework depends on."""

from __future__ import annotations

# Those of uvicorn 0.54.
NAMES = """
    close_sent close_timeout close_timer conn curr_msg_data_type disconnected frames handle_close handle_cont
    handle_events handle_parser_exception handle_ping handle_pong handshake_complete keepalive_timeout loop
    on_task_complete pending_ping_payload ping_timeout pong_timer queue schedule_ping send_receive_event_to_app
    transport writable
"""
REQUIRED_ATTRIBUTES = tuple(NAMES.split())

# Whether a class has all attributes of a list.
_checked: dict[tuple[type, tuple[str, ...]], bool] = {}


def has_attributes(protocol: object) -> bool:
    """Check once for each class whether its objects have all attributes; some exist on objects only."""
    key = (type(protocol), REQUIRED_ATTRIBUTES)
    if key not in _checked:
        _checked[key] = all(hasattr(protocol, name) for name in REQUIRED_ATTRIBUTES)
    return _checked[key]
