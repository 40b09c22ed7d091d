"""Configuration of the documentation site: Sphinx reads the Markdown files where they lie.

``make docs`` calls Sphinx with the project's folder as its source, so the links between the files work on the
site as they do in an editor or on a host of Git repositories.
"""

import fnmatch
import html
from collections.abc import Iterable
from pathlib import Path
from typing import Any

NAMES = {
    "site": {{ cookiecutter.__project_name_literal }},
}
project = NAMES["site"]
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = ["*.md", "docs/**.md"]
exclude_patterns = [".*", "build", "dist", "src", "tests", "var"]

# The anchors of headings are those of GitHub.
myst_heading_anchors = 6
# Code in languages without a lexer, such as the layering rule, is shown without colours.
suppress_warnings = ["misc.highlighting_failure"]

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
add_module_names = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 88

smartquotes = False

html_theme = "furo"
html_title = html.escape(project)
html_show_copyright = False
html_copy_source = False
# The theme uses the fonts of the reader's system, and follows the system's light or dark mode.
html_theme_options = {"navigation_with_keys": True}

# The navigation: captions and patterns of pages in their order. A page that no pattern matches comes last.
OTHER_PAGES = "More"
GUIDE = """
    index connections rooms presence history sessions hooks several-rooms moderation limits workers
    many-processes servers contract testing *
"""
REFERENCE = "index application resources messages rooms limits errors workers servers contract *"
SECTIONS = (
    ("Start", ("docs/guide", "docs/messages", "docs/architecture", "docs/glossary")),
    ("Clients", ("docs/protocol", "docs/framework/client")),
    ("The framework", tuple(f"docs/framework/{name}" for name in GUIDE.split())),
    ("Operations", ("docs/operations", "docs/settings", "docs/scaling", "docs/troubleshooting")),
    ("Security", ("docs/identity", "docs/security")),
    ("Reference", tuple(f"docs/reference/{name}" for name in REFERENCE.split())),
    ("Changes", ("docs/decisions", "CONTRIBUTING", "AGENTS", "SECURITY", "CHANGELOG")),
)


def assign(pages: list[str], sections: Iterable[tuple[str, Iterable[str]]]) -> dict[str, list[str]]:
    """Return the pages of each section in their order; each page is in one section."""
    left = sorted(pages)
    assigned: dict[str, list[str]] = {}
    for caption, patterns in (*sections, (OTHER_PAGES, ("*",))):
        for pattern in patterns:
            matches = fnmatch.filter(left, pattern)
            assigned.setdefault(caption, []).extend(matches)
            left = [page for page in left if page not in matches]
    return {caption: names for caption, names in assigned.items() if names}


def add_navigation(app: Any, page: str, content: list[str]) -> None:
    """Append the navigation to the first page as it is read; the file itself stays as it is."""
    if page != app.config.root_doc:
        return
    pages = [name for name in app.env.found_docs if name != page]
    for caption, names in assign(pages, SECTIONS).items():
        entries = "\n".join(f"/{name}" for name in names)
        content[0] += "\n```{toctree}\n:hidden:\n" + f":caption: {caption}\n\n{entries}\n```\n"


def mark_examples(
    app: Any, what: str, name: str, subject: Any, options: Any, lines: list[str]
) -> None:
    """Mark the indented examples of a docstring as code; without a mark they would be quotations."""
    marked: list[str] = []
    before, indent_before = "", 0
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line.strip():
            follows_a_blank_line = bool(marked) and not marked[-1].strip()
            if follows_a_blank_line and indent >= indent_before + 4 and not before.endswith("::"):
                marked += [" " * indent_before + ".. code-block:: python", ""]
            before, indent_before = line.rstrip(), indent
        marked.append(line)
    lines[:] = marked


def add_index(app: Any, error: Exception | None) -> None:
    """Write the page that a web server returns for the folder: it leads to the first page."""
    if error is None:
        target = app.builder.get_target_uri(app.config.root_doc)
        redirect = f'<!doctype html><meta http-equiv="refresh" content="0; url={target}">'
        title = f'<title>Documentation</title><a href="{target}">Documentation</a>'
        (Path(app.outdir) / "index.html").write_text(f"{redirect}{title}\n", "utf-8")


def setup(app: Any) -> None:
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-docstring", mark_examples, priority=400)
    app.connect("build-finished", add_index)
