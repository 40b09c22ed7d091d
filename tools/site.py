"""Build the documentation site of the template; the guides of a project are a part of it.

``python -m tools.site FOLDER`` copies the template's documents and a project with the default answers into one folder
of ``build``, and runs Sphinx on it with ``docs/conf.py``. A warning, such as a broken link, is an error.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The documents, and the files that they show or link to.
COPIED = (
    "README.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "LICENSE",
    "docs",
    "bench/README.md",
    "bench/results",
)
# In the documents the project is the template's folder; on the site it is this one.
PROJECT = "project"
TEMPLATE_FOLDER = re.compile(r"(\]\((?:\.\./)*){{cookiecutter\.project_slug}}/")


def collect(source: Path) -> None:
    """Write the files of the site into an empty folder."""
    for name in COPIED:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, path)
        else:
            shutil.copy(ROOT / name, path)
    for page in source.rglob("*.md"):
        page.write_text(TEMPLATE_FOLDER.sub(rf"\1{PROJECT}/", page.read_text("utf-8")), "utf-8")
    with tempfile.TemporaryDirectory(dir=source) as baked:
        bake = ("-m", "cookiecutter", str(ROOT), "--no-input", "--default-config", "-o", baked)
        subprocess.run([sys.executable, *bake], check=True, stdout=subprocess.DEVNULL)
        [project] = Path(baked).iterdir()
        project.rename(source / PROJECT)


def build(site: Path) -> int:
    """Build the site, and return the exit status of Sphinx."""
    work = ROOT / "build"
    work.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="site-", dir=work) as folder:
        source = Path(folder) / "source"
        source.mkdir()
        collect(source)
        shutil.rmtree(site, ignore_errors=True)
        options = ("--fail-on-warning", "--keep-going", "--quiet", "-c", str(source / "docs"))
        doctrees = str(Path(folder) / "doctrees")
        return subprocess.run(
            [sys.executable, "-m", "sphinx", *options, "-d", doctrees, str(source), str(site)],
            env={**os.environ, "PYTHONPATH": str(source / PROJECT / "src")},
        ).returncode


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print("Building the site ...", file=sys.stderr)
    status = build(target)
    if status == 0:
        print(f"The site is in {target}: open {target / 'index.html'}.", file=sys.stderr)
    sys.exit(status)
