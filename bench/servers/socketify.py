"""socketify, Python over uWebSockets: a subscription per connection and ``app.publish``."""

import json
from typing import Any

from socketify import App, CompressOptions, OpCode

from ..collector import set_collector
from ..valkey import free_port

app = App()


def upgrade(response: Any, request: Any, context: Any) -> None:
    response.upgrade(
        *(
            request.get_header(f"sec-websocket-{name}")
            for name in ("key", "protocol", "extensions")
        ),
        context,
        request.get_url(),
    )


def on_open(client: Any) -> None:
    if client.get_user_data() != "/echo":
        client.subscribe(client.get_user_data())


def on_message(client: Any, message: str, code: Any) -> None:
    said = json.dumps({"type": "said", "payload": json.loads(message)["payload"]})
    if client.get_user_data() == "/echo":
        client.send(said, OpCode.TEXT)
    else:
        app.publish(client.get_user_data(), said, OpCode.TEXT)


if __name__ == "__main__":
    options = {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 1024 * 1024,
        "idle_timeout": 120,
        "upgrade": upgrade,
        "open": on_open,
        "message": on_message,
    }
    app.ws("/*", options)
    port = free_port()
    set_collector()
    app.listen({"port": port, "host": "127.0.0.1"}, lambda config: print(port, flush=True))
    app.run()
