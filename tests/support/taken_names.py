"""The names that no project may take, as the hook lists them, and those of an environment."""

import ast
import re
import subprocess
from pathlib import Path

from packaging.utils import canonicalize_name

# One that begins with an underscore is a private part of a distribution with a name of its own.
MODULE = re.compile(r"(?!.*__mypyc$)[a-z][a-z0-9_]*")
INSTALLED = """
import importlib.metadata
print(*(each.name for each in importlib.metadata.distributions()))
print(*importlib.metadata.packages_distributions())
"""


def taken_distributions(root: Path) -> set[str]:
    """Return the distributions whose names the hook refuses."""
    hook = (root / "hooks/pre_gen_project.py").read_text("utf-8")
    [block] = re.findall(r'DISTRIBUTIONS = frozenset\(\s+"""(.*?)"""', hook, re.DOTALL)
    return set(block.split())


def taken_modules(root: Path) -> set[str]:
    """Return the modules of distributions whose names the hook refuses, and the folder of the tests."""
    hook = (root / "hooks/pre_gen_project.py").read_text("utf-8")
    [block] = re.findall(r"MODULES_OF_OTHER_NAMES = frozenset\((.*?)\)", hook, re.DOTALL)
    others: set[str] = ast.literal_eval(block.strip())
    return others | {name.replace("-", "_") for name in taken_distributions(root)} | {"tests"}


def free_names(root: Path, python: Path) -> set[str]:
    """Return the names of an environment's distributions and modules that the hook accepts."""
    printed = subprocess.run(
        [python, "-c", INSTALLED], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    distributions, modules = printed.splitlines()
    names: set[str] = {canonicalize_name(name) for name in distributions.split()}
    known = {name for name in modules.split() if MODULE.fullmatch(name)}
    return (names - taken_distributions(root)) | (known - taken_modules(root))
