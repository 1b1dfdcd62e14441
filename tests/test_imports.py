"""The imports form a diamond: jobs -> pipeline -> {models, schemas}. Any other import fails here."""

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
ONLY_IN = {  # library: the places that may import it
    "ray": ("pipeline/stages/", "jobs/benchmark/", "jobs/doctor.py"),
    "deltalake": ("pipeline/tables/", "pipeline/report/"),
    "duckdb": ("pipeline/tables/", "pipeline/report/"),
    "botocore": ("pipeline/storage/",),
    "obstore": ("pipeline/storage/",),
}
FLOORS = (  # of pipeline: a room may import rooms of its own floor and of the floors below
    {"storage", "decode"},
    {"scoring", "input", "sources", "verdicts"},
    {"report", "state"},
    {"tables", "stages", "in_process"},
    {"run", "slice_scoring", "session"},
)
STRANGERS = {"stages": "tables", "tables": "stages"}  # they meet at state
FILES = sorted(path.relative_to(ROOT) for package in OURS for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full names of everything that a file imports, anywhere in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}:{node.lineno}: write the full name instead of a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    """The room of a file of pipeline: the folder below it, or the file's own name."""
    return path.parts[1].removesuffix(".py")


def floor(of: str) -> int:
    (found,) = (number for number, rooms in enumerate(FLOORS) if of in rooms)
    return found


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports(path):
    package = path.parts[0]
    names = {name.partition(".")[0] for name in imported(ROOT / path)}
    assert names & set(OURS) <= MAY_IMPORT[package]
    assert not names & NEVER.get(package, set())
    if package in ONLY:
        assert names - set(OURS) <= ONLY[package]
    for library in names & ONLY_IN.keys():
        assert path.as_posix().startswith(ONLY_IN[library]), library


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parts[0] == "pipeline" and path.name != "__init__.py"], ids=str
)
def test_rooms_of_pipeline_import_downward(path):
    mine = room(path)
    theirs = {name.split(".")[1] for name in imported(ROOT / path) if name.startswith("pipeline.")}
    assert all(floor(other) <= floor(mine) for other in theirs)
    assert STRANGERS.get(mine) not in theirs


def test_no_two_rooms_import_each_other():
    edges = set()
    for path in FILES:
        if path.parts[0] in ("pipeline", "models") and len(path.parts) > 2:
            mine = ".".join(path.parts[:2])
            edges |= {(mine, ".".join(name.split(".")[:2])) for name in imported(ROOT / path) if name.startswith(path.parts[0])}
    edges.remove(("pipeline.input", "pipeline.sources"))  # the registry lists that folder, and imports a file of it by name
    assert not {(a, b) for a, b in edges if a < b and (b, a) in edges}


def test_jobs_holds_verbs_and_the_command():
    for path in (ROOT / "jobs").glob("*.py"):
        functions = {
            node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
        }
        assert path.name == "__init__.py" or "main" in functions, path


def test_every_folder_of_tests_mirrors_one_of_ours():
    for folder in (ROOT / "tests").rglob("*/"):
        of = folder.relative_to(ROOT / "tests")
        if of.parts and of.parts[0] in OURS and folder.name != "__pycache__":
            assert (ROOT / of).is_dir(), f"tests/{of} mirrors nothing"


def test_no_file_is_long():
    lengths = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {path: length for path, length in lengths.items() if length > 300}


def test_names_of_files_say_what_is_inside():
    assert not [path for path in FILES if path.stem in ("utils", "base", "common", "helpers", "misc")]


def test_no_package_under_tests_shadows_ours():
    assert not list((ROOT / "tests").rglob("__init__.py"))
