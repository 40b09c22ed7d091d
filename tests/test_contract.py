"""A project's contract passes AsyncAPI's official parser and the TypeScript compiler."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from .framework.schema.asyncapi_rules import problems_of
from .support.npm import BOUND_SECONDS, COMPILER_OPTIONS, install_packages, run

PACKAGES = ("@asyncapi/parser@3.6.3", "typescript@7.0.2")

PARSE = """
import { readFile } from "node:fs/promises";
import parser from "@asyncapi/parser";

const { document, diagnostics } = await new parser.Parser().parse(await readFile(process.argv[2], "utf8"));
console.log(JSON.stringify({ parsed: document !== undefined, diagnostics }));
"""
# Severities of the parser's diagnostics.
ERROR, WARNING = 0, 1

# A program with correct calls of the client and, where marked, wrong ones.
CONSUMER = """
import { connect, isTerminalCode, retryDelayMs, RequestError } from "./realtime.js";
import type { RealtimeClient, RealtimeRoom, ServerNewMessage } from "./realtime.js";

const client: RealtimeClient = connect(new URL("wss://example.com/ws/chat/general"), { maxDelayMs: 1 });
client.on("serverNewMessage", ({ user, text }: ServerNewMessage) => [user.length, text.length]);
const stop: boolean = client.on("serverUserTyping", ({ isTyping }) => void (isTyping satisfies boolean))();
client.on("serverNewMessage", (_, { id, at }) => [id?.length, at?.toFixed()]);
client.onStatus(({ state, nextTryAtMs }) => void [state, nextTryAtMs]);
client.onRecovery(({ recovered }) => void (recovered satisfies boolean))() satisfies boolean;
[client.state === "open", client.status.reason, client.queuedMessages.toFixed()];
client.retryNow();
client.reconnect();
isTerminalCode(4403) satisfies boolean;
retryDelayMs(1, 500, 30_000) satisfies number;
client.send("clientSendMessage", { text: "Hello" }) satisfies boolean;
client.send("clientStartTyping");
client.send("clientStartTyping", {});
// @ts-expect-error: the payload has a required field
client.send("clientSendMessage");
// @ts-expect-error: the field is named text
client.send("clientSendMessage", { words: "Hello" });
// @ts-expect-error: not a client message
client.send("clientSing");
const reply = await client.request("clientSendMessage", { text: "Hello" }, { timeoutMs: 1_000 });
reply.type satisfies "serverAck";
reply.payload satisfies object;
const refreshed = await client.request("clientRefreshSession", { token: "t" });
refreshed.payload.expiresInSeconds satisfies number | null;
(await client.request("clientStartTyping")).type satisfies "serverAck";
// @ts-expect-error: the payload has a required field
client.request("clientSendMessage");
// @ts-expect-error: another reply
refreshed.type satisfies "serverAck";
client.request("clientPing").catch((error: unknown) => error instanceof RequestError && [error.code, error.field]);
// @ts-expect-error: not a server message
client.on("serverSang", () => {});
// @ts-expect-error: not a field of the payload
client.on("serverUserTyping", ({ words }) => words);
(await client.request("clientSendMessage", { text: "Hello" }, { once: true })).type satisfies "serverAck";
client.answer("serverNewMessage", async ({ text }) => text.length);
client.answer("serverNewMessage", null);
// @ts-expect-error: not a server message
client.answer("serverSang", () => 1);
const room: RealtimeRoom = connect("/ws").join("general");
room.on("serverNewMessage", ({ text }) => text.length);
room.send("clientStartTyping") satisfies boolean;
(await room.request("clientLoadHistory", {})).payload.messages.length satisfies number;
// @ts-expect-error: not a client message
room.send("clientSing");
room.leave();
connect<Record<string, any>, Record<string, any>>("/ws/other").send("anything", 5);
client.close(4000, String(stop));
"""


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed npm packages."""
    return install_packages(tmp_path_factory.mktemp("tools"), PACKAGES)


@pytest.mark.timeout(BOUND_SECONDS)
@pytest.mark.parametrize(
    "answers",
    [
        {},
        {
            "project_name": 'Ünïcode: "quoted" \\ & <b>#bold</b>',
            "description": "- yes: it's {odd}",
            "resource_name": "On",
            "websocket_path": "/live",
            "license": "Proprietary",
        },
    ],
    ids=["defaults", "odd answers"],
)
def test_official_parser_accepts_the_document(
    tools: Path, baked: Callable[..., Path], answers: dict[str, str]
) -> None:
    (tools / "parse.js").write_text(PARSE)
    found = json.loads(run(tools, "node", "parse.js", str(baked(**answers) / "asyncapi.yaml")))
    assert [each for each in found["diagnostics"] if each["severity"] in (ERROR, WARNING)] == []
    assert found["parsed"]


@pytest.mark.timeout(BOUND_SECONDS)
def test_official_parser_rejects_an_invalid_document(
    tools: Path, baked: Callable[..., Path]
) -> None:
    (tools / "parse.js").write_text(PARSE)
    document = (baked() / "asyncapi.yaml").read_text(encoding="utf-8")
    (tools / "wrong.yaml").write_text(document.replace("action: send", "action: shout"))
    found = json.loads(run(tools, "node", "parse.js", "wrong.yaml"))
    assert any(each["severity"] == ERROR for each in found["diagnostics"])


@pytest.mark.timeout(BOUND_SECONDS)
def test_page_scripts_match_their_types(tools: Path, baked: Callable[..., Path]) -> None:
    [web] = baked().glob("src/*/web")
    shutil.copytree(web, tools / "web")
    (tools / "web" / "consumer.ts").write_text(CONSUMER)
    # The compiler checks the script itself only without its declarations beside it.
    (tools / "alone").mkdir()
    shutil.copy(web / "realtime.js", tools / "alone")
    scripts = sorted(str(path) for path in (tools / "web").rglob("*.js"))
    (tools / "tsconfig.json").write_text(
        json.dumps(
            {
                "compilerOptions": COMPILER_OPTIONS,
                "files": [*scripts, "web/consumer.ts", "alone/realtime.js"],
            }
        )
    )
    assert run(tools, "npx", "--no-install", "tsc", "--project", ".") == ""


def test_the_document_of_a_project_conforms_to_the_official_schema(
    baked: Callable[..., Path], default_or_far: dict[str, str]
) -> None:
    document = yaml.safe_load((baked(**default_or_far) / "asyncapi.yaml").read_text("utf-8"))
    assert problems_of(document) == []


# Settings that determine the server of the document, as JSON.
SERVERS: tuple[dict[str, Any], ...] = (
    {},
    {"host": "0.0.0.0", "port": 80},
    {"host": "::1"},
    {"host": "chat.local"},
    {"public_origin": "https://Chat.example.com:443"},
    {"public_origin": "http://chat.example.com:8080"},
)

# A program that prints the document for each of them.
DESCRIBE = """
import json, sys
from chat_service.app import create_app
from chat_service.contract import describe
from chat_service.settings import Settings

common = {"_env_file": None, "environment": "production", "secret": "x" * 48}
for given in json.loads(sys.argv[1]):
    settings = Settings(**common, **given)
    print(json.dumps(describe(create_app(settings), settings)))
"""


@pytest.mark.timeout(300)  # the environment is made first
def test_the_document_conforms_to_the_official_schema_with_any_server(
    project_python: Path, run: Callable[..., str], baked: Callable[..., Path]
) -> None:
    project = baked()
    command = (project_python, "-c", DESCRIBE, json.dumps(SERVERS))
    documents = run(project, *command, PYTHONPATH=project / "src").splitlines()
    assert len(documents) == len(SERVERS)
    for document in documents:
        assert problems_of(json.loads(document)) == []
