"""The imports form a diamond: jobs -> pipeline -> {models, schemas}. Anything else fails here."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("jobs", "pipeline", "models", "schemas")
MAY_IMPORT = {
    "schemas": {"schemas"},
    "models": {"models"},
    "pipeline": {"pipeline", "models", "schemas"},
    "jobs": {"jobs", "pipeline", "models", "schemas"},
}
NEVER = {"models": {"ray", "pyarrow", "fsspec", "s3fs", "obstore", "deltalake"}}
ONLY = {"schemas": {"pyarrow", *sys.stdlib_module_names}}
FILES = sorted(path.relative_to(ROOT) for package in OURS for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level names of everything a file imports, wherever in the file it does so."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the full name instead of a relative import"
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports(path):
    package = path.parts[0]
    names = imported(ROOT / path)
    assert names & set(OURS) <= MAY_IMPORT[package]
    assert not names & NEVER.get(package, set())
    if package in ONLY:
        assert names - set(OURS) <= ONLY[package]


def test_names_of_files_say_what_is_inside():
    assert not [path for path in FILES if path.stem in ("utils", "base", "common", "helpers", "misc")]


def test_no_package_under_tests_shadows_ours():
    assert not list((ROOT / "tests").rglob("__init__.py"))
