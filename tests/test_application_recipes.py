"""The recipes for applications: a project with all of their blocks does what they promise, on one node."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import falcon.asgi
import httpx
import pytest

from falcon_pachinko import testing

from .support.http_requests import request
from .support.processes import WAIT_SECONDS, required_program
from .support.recipe_project import (
    APPLICATION_RECIPES,
    RECIPES,
    RecipeProject,
    Service,
    recipe_blocks,
    recipe_steps,
)

BOUND_SECONDS = 400
MAX_LINES = 80
WEBHOOK_SECRET = "the-secret-of-the-build-server"
FORBIDDEN = 4403


@pytest.fixture(scope="module")
def service(
    recipe_project: RecipeProject, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """One node with all recipes; tests share it, each with its own rooms."""
    folder = tmp_path_factory.mktemp("service") / "node"
    variables = {"WEBHOOK_SECRET": WEBHOOK_SECRET, "APP_PRESENCE_GRACE_SECONDS": "0.2"}
    with recipe_project.serve(folder, **variables) as service:
        yield service


async def payload_of(client: testing.Client, message_type: str) -> Any:
    """Receive up to the next message of a type, and return its payload."""
    return (await client.receive_until(message_type))[-1]["payload"]


def test_the_index_lists_all_recipes() -> None:
    index = (RECIPES / "index.md").read_text("utf-8")
    linked = set(re.findall(r"\]\(([\w.-]+)\)", index))
    assert linked >= {f"{name}.md" for name in APPLICATION_RECIPES}
    assert linked == {path.name for path in RECIPES.iterdir()} - {"index.md"}


@pytest.mark.parametrize("name", APPLICATION_RECIPES)
def test_a_recipe_is_short_and_all_its_code_is_carried_out(name: str) -> None:
    text = (RECIPES / f"{name}.md").read_text("utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    assert len(re.findall(r"^```python$", text, re.MULTILINE)) == len(
        [step for step, _ in recipe_steps(name) if step.startswith(("new ", "in ", "at the end "))]
    )


@pytest.mark.parametrize("name", APPLICATION_RECIPES)
def test_a_recipe_needs_no_other_one(
    name: str, plain_project: RecipeProject, tmp_path: Path
) -> None:
    project = plain_project.copy(tmp_path / "chat-service")
    project.apply(name)
    project.module("ruff", "check", "--no-cache", "--fix", "--quiet")


@pytest.mark.timeout(BOUND_SECONDS)
def test_a_project_with_all_recipes_passes_its_checks(recipe_project: RecipeProject) -> None:
    recipe_project.module("ruff", "check", "--no-cache")
    recipe_project.module("ruff", "format", "--no-cache", "--check")
    recipe_project.module("mypy", "src")
    tests = [f"tests/unit/test_{name}.py" for name in ("contract", "messages", "users")]
    recipe_project.module("pytest", "-q", "-p", "no:cacheprovider", *tests)


async def test_direct_messages_are_for_two_users(service: Service) -> None:
    path = "/ws/chat/" + quote("direct-Alice&&Bob")
    async with (
        service.connect(path, "Alice") as alice,
        service.connect("/ws/chat/elsewhere", "Bob") as bob,
        service.connect(path, "Carol") as carol,
        service.connect("/ws/chat/" + quote("direct-Bob&&Alice"), "Bob") as wrong_order,
    ):
        assert (await carol.wait_closed())[0] == FORBIDDEN
        assert (await wrong_order.wait_closed())[0] == FORBIDDEN
        await bob.receive_until("serverPosition")
        await alice.send("clientSendMessage", {"text": "Only for you"})
        assert await payload_of(bob, "serverDirectNotice") == {"room": "direct-Alice&&Bob"}
    async with service.connect(path, "Bob") as bob:
        await bob.send("clientLoadHistory", {})
        [message] = (await payload_of(bob, "serverHistory"))["messages"]
        assert (message["user"], message["text"]) == ("Alice", "Only for you")


async def test_a_signed_webhook_reaches_the_room(
    service: Service, recipe_project: RecipeProject
) -> None:
    for program in ("curl", "openssl"):
        required_program(program)
    [commands] = recipe_blocks("webhook", "run")
    commands = commands.replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")

    async def shell(text: str, secret: str) -> str:
        return await asyncio.to_thread(recipe_project.shell, text, WEBHOOK_SECRET=secret)

    async with service.connect("/ws/chat/builds", "Alice") as alice:
        await alice.receive_until("serverPosition")
        await shell(commands, WEBHOOK_SECRET)
        announced = await payload_of(alice, "serverSystemAnnouncement")
        assert announced == {"text": "Build 7 is green."}
        with pytest.raises(AssertionError):
            await shell(commands, "another secret")
        invalid = commands.replace('"text"', '"body"').replace("curl -sf", "curl -s")
        assert "400 Bad Request" in await shell(invalid, WEBHOOK_SECRET)
        await alice.send("clientSendMessage", {"text": "No further one"})
        *before, _ = await alice.receive_until("serverNewMessage")
        assert "serverSystemAnnouncement" not in {each["type"] for each in before}
    assert request(service.port, "POST", "/hooks/builds", {"text": "unsigned"}).status == 403


async def test_roles_and_invitations_open_rooms_and_moderators_remove_users(
    service: Service, recipe_project: RecipeProject
) -> None:
    token_command, invite_command = recipe_blocks("private-rooms", "run")

    def token(commands: str) -> str:
        [found] = re.findall(r"^ey\S+$", recipe_project.shell(commands), re.MULTILINE)
        return str(found)

    rita = token(token_command)
    sam = token(token_command.replace("Rita --role red", "Sam --role staff"))
    code = recipe_project.shell(invite_command).strip().rpartition("#")[2]
    async with (
        service.connect("/ws/chat/team-red", "Bob") as bob,
        service.connect("/ws/chat/private-team", "Bob") as uninvited,
    ):
        assert (await bob.wait_closed())[0] == FORBIDDEN
        assert (await uninvited.wait_closed())[0] == FORBIDDEN
    async with (
        service.connect("/ws/chat/team-red", token=rita) as member,
        service.connect("/ws/chat/news", token=rita) as reader,
        service.connect("/ws/chat/news", token=sam) as writer,
        service.connect(f"/ws/chat/{quote(code)}", "Bob") as invited,
        service.connect("/ws/chat/private-team", token=sam) as moderator,
    ):
        for client in (member, reader, writer, invited, moderator):
            await client.receive_until("serverPosition")
        await reader.send("clientSendMessage", {"text": "News!"})
        assert (await payload_of(reader, "serverError"))["code"] == "forbidden"
        await writer.send("clientSendMessage", {"text": "News!"})
        assert (await payload_of(reader, "serverNewMessage"))["text"] == "News!"
        await invited.send("clientRemoveUser", {"userId": "Sam"})
        assert (await payload_of(invited, "serverError"))["code"] == "forbidden"
        await moderator.send("clientRemoveUser", {"userId": "Bob", "minutes": 5})
        assert (await invited.wait_closed())[0] == FORBIDDEN
    async with service.connect(f"/ws/chat/{quote(code)}", "Bob") as again:
        assert (await again.wait_closed())[0] == FORBIDDEN


async def test_cursors_are_shown_and_disappear(service: Service) -> None:
    path = "/ws/boards/plan"
    async with service.connect(path, "Alice") as alice:
        assert await payload_of(alice, "serverBoard") == {"cursors": {}}
        async with service.connect(path, "Bob") as bob:
            await bob.receive_until("serverBoard")
            await bob.send("clientMoveCursor", {"x": 3, "y": 4})
            moved = await payload_of(alice, "serverCursorMoved")
            assert moved == {"userId": "Bob", "cursor": {"x": 3, "y": 4}}
            async with service.connect(path, "Carol") as carol:
                board = await payload_of(carol, "serverBoard")
                assert board == {"cursors": {"Bob": {"x": 3, "y": 4}}}
                for _ in range(40):
                    await carol.send("clientMoveCursor", {"x": 1, "y": 1})
                assert (await payload_of(carol, "serverError"))["code"] == "tooManyMessages"
        while moved["userId"] != "Bob" or moved["cursor"] is not None:
            moved = await payload_of(alice, "serverCursorMoved")


async def test_old_and_new_clients_share_a_room(service: Service) -> None:
    async with (
        service.connect("/ws/old/general", "Olga") as old,
        service.connect("/ws/chat/general", "Nina") as new,
        service.connect("/ws/old/staff", "Olga") as refused,
    ):
        assert (await refused.wait_closed())[0] == 4403
        await new.receive_until("serverPosition")
        await old.send({"message": "from the old one"})
        assert await old.receive() == {"message": "from the old one"}
        received = await payload_of(new, "serverNewMessage")
        assert (received["user"], received["text"]) == ("Olga", "from the old one")
        await new.send("clientSendMessage", {"text": "from the new one"})
        assert await old.receive() == {"message": "from the new one"}
        await old.send_raw("[]")
        assert (await payload_of(old, "serverError"))["code"] == "unknownMessage"


class Model:
    """A language model with OpenAI's interface, which answers with two parts, or fails."""

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        body = await req.get_media()
        [question] = body["messages"]
        if question["content"] == "fail":
            raise falcon.HTTPServiceUnavailable
        resp.content_type = "text/event-stream"
        resp.stream = self.parts()

    async def parts(self) -> AsyncIterator[bytes]:
        for delta in ({"role": "assistant"}, {"content": "Forty"}, {"content": "-two"}):
            yield b"data: %s\n\n" % json.dumps({"choices": [{"delta": delta}]}).encode()
        yield b"data: [DONE]\n\n"


async def test_the_answer_of_a_language_model_is_streamed(
    recipe_project: RecipeProject, tmp_path: Path
) -> None:
    app = falcon.asgi.App()
    app.add_route("/v1/chat/completions", Model())
    async with testing.serve(app) as model:
        with recipe_project.serve(tmp_path / "node", MODEL_URL=model.url("/v1")) as service:
            async with service.connect("/ws/assistant", "Alice") as alice:
                await alice.send({"type": "clientAsk", "payload": {"question": "?"}, "ref": "1"})
                reply = {"type": "serverAnswer", "payload": {"text": "Forty-two"}, "ref": "1"}
                received = []
                while (message := await alice.receive()) != reply:
                    received.append(message["payload"]["text"])
                assert [text for text in received if text] == ["Forty", "-two"]
                await alice.send("clientAsk", {"question": "fail"})
                assert (await payload_of(alice, "serverError"))["code"] == "modelFailed"


async def test_users_and_programs_of_a_provider_sign_in(
    recipe_project: RecipeProject, tmp_path: Path
) -> None:
    given = "server.user.update(name='Rita', roles=['crew']) or [server.variables(), server.access_token()]"
    [doctor] = recipe_blocks("sign-in", "run")
    with recipe_project.test_server("tests.provider", "running_provider", given) as provider:
        variables, access_token = provider
        assert "its metadata and its keys are valid" in recipe_project.shell(doctor, **variables)
        with recipe_project.serve(tmp_path / "node", **variables) as service:
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{service.port}",
                follow_redirects=True,
                timeout=WAIT_SECONDS,
                trust_env=False,
            ) as browser:
                page = await browser.get("/login")
                assert page.status_code == 200
                user = (await browser.get("/session")).json()["user"]
                assert (user["name"], user["roles"]) == ("Rita", ["crew"])
                cookies = {each.name: each.value or "" for each in browser.cookies.jar}
            async with (
                service.connect("/ws/chat/crew", cookies=cookies) as rita,
                service.connect("/ws/chat/crew", token=access_token) as program,
                service.connect("/ws/chat/staff", cookies=cookies) as refused,
            ):
                assert (await refused.wait_closed())[0] == FORBIDDEN
                await rita.receive_until("serverPosition")
                await program.send("clientSendMessage", {"text": "Ahoy"})
                assert (await payload_of(rita, "serverNewMessage"))["user"] == "Rita"
