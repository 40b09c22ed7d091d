"""A built documentation site: its pages, their links and anchors, what they load."""

import re
from collections.abc import Iterator
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

# The attributes with which an element loads a file when the page is shown.
LOADS = {
    ("audio", "src"),
    ("iframe", "src"),
    ("img", "src"),
    ("img", "srcset"),
    ("link", "href"),
    ("script", "src"),
    ("source", "srcset"),
}


class Page(HTMLParser):
    """The links, the loaded files and the ids of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id" and value:
                self.ids.add(value)
            elif (tag, name) == ("a", "href"):
                self.links.append(value or "")
            elif (tag, name) in LOADS:
                self.loads.append(value or "")


class Site:
    """A site in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def text(self, page: str) -> str:
        return (self.folder / page).read_text("utf-8")

    @cached_property
    def pages(self) -> dict[str, Page]:
        """The pages by their paths within the site."""
        return {
            path.relative_to(self.folder).as_posix(): Page(path.read_text("utf-8"))
            for path in sorted(self.folder.rglob("*.html"))
        }

    def broken_links(self) -> Iterator[str]:
        """Yield the links and the loaded files that do not exist in the site, and missing anchors."""
        for name, page in self.pages.items():
            for link in (*page.links, *page.loads):
                if urlsplit(link).scheme:
                    continue
                url, anchor = urldefrag(urljoin(name, link) if link[:1] != "#" else name + link)
                path = url.partition("?")[0]
                target = self.folder / unquote(path)
                if not target.is_file():
                    yield f"{name}: {link} does not exist"
                elif anchor and path in self.pages and unquote(anchor) not in self.pages[path].ids:
                    yield f"{name}: {link} has no such anchor"

    def external_files(self) -> Iterator[str]:
        """Yield what pages and style sheets load from other hosts."""
        for name, page in self.pages.items():
            yield from (f"{name}: {load}" for load in page.loads if urlsplit(load).netloc)
        for sheet in self.folder.rglob("*.css"):
            for url in re.findall(
                r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\s\"')]+)", sheet.read_text("utf-8")
            ):
                yield f"{sheet.name}: {url}"

    def navigation(self, page: str = "README.html") -> dict[str, list[str]]:
        """Return the pages of each section of the navigation."""
        tree = self.text(page).partition('<div class="sidebar-tree">')[2].partition("</aside>")[0]
        parts = re.split(
            r'<p class="caption"[^>]*><span class="caption-text">([^<]+)</span></p>', tree
        )
        return {
            caption: re.findall(r'<a class="reference internal" href="([^"#]+)"', links)
            for caption, links in zip(parts[1::2], parts[2::2], strict=True)
        }
