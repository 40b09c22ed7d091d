"""Configuration of the template's documentation site, which ``make docs`` builds with ``tools/site.py``.

That program copies a baked project into the folder ``project`` beside this folder. The site has the configuration of
the project's own site, other pages in front of its pages, and one search.
"""

import importlib.util
import shutil
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent.parent

spec = importlib.util.spec_from_file_location("project_conf", SOURCE / "project/docs/conf.py")
assert spec is not None
assert spec.loader is not None
project_conf = importlib.util.module_from_spec(spec)
spec.loader.exec_module(project_conf)

# The navigation: captions and patterns of pages in their order.
OWN_SECTIONS = (
    (
        "Start",
        ("docs/start", "docs/questions", "docs/tutorial", "docs/comparison", "docs/upgrading"),
    ),
    ("Recipes", ("docs/recipes/index", "docs/recipes/*")),
    (
        "The template",
        (
            "docs/architecture",
            "docs/decisions",
            "docs/contributing",
            "docs/releasing",
            "docs/performance",
            "bench/README",
            "CHANGELOG",
            "SECURITY",
        ),
    ),
    ("A project", ("project/README",)),
)
project_conf.SECTIONS = OWN_SECTIONS + tuple(
    (f"Project: {caption}", tuple(f"project/{pattern}" for pattern in patterns))
    for caption, patterns in project_conf.SECTIONS
)

globals().update({name: each for name, each in vars(project_conf).items() if name[0] != "_"})
project = html_title = "pachinko-template"
include_patterns = ["*.md", "docs/**.md", "bench/**.md", "project/*.md", "project/docs/**.md"]


def copy_images(app: Any, error: Exception | None) -> None:
    """Copy the images that the README shows with HTML, for a light and a dark mode."""
    if error is None:
        images = Path(app.outdir) / "docs/images"
        shutil.copytree(SOURCE / "docs/images", images, dirs_exist_ok=True)


def setup(app: Any) -> None:
    project_conf.setup(app)
    app.connect("build-finished", copy_images)
