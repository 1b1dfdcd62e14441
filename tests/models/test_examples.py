"""The examples in the docstrings of models/ run as they stand, and nothing that a researcher would call lacks one."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
FILES = sorted(path for path in (ROOT / "models").rglob("*.py") if path.name != "__init__.py")
# Their values show in the examples of what takes or returns them: rows, settings, errors, and the detectors behind `build`.
SHOWN_BY_OTHERS = {"NamedTuple", "Protocol", "BaseModel", "TrainingConfig", "ValueError", "ModelError", "Detector", "Headed"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def documented(node: ast.FunctionDef | ast.ClassDef) -> bool:
    return ">>>" in (ast.get_docstring(node) or "")


def is_shown_by_others(node: ast.ClassDef) -> bool:
    rows = any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
    return rows or bool({ast.unparse(base) for base in node.bases} & SHOWN_BY_OTHERS)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_examples_run(path):
    module = importlib.import_module(name_of(path))
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, module.__name__):
        torch.manual_seed(0)
        said: list[str] = []
        failed, _ = doctest.DocTestRunner().run(test, out=said.append)
        assert not failed, "".join(said)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_public_function_and_class_has_an_example(path):
    lacking = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_") or documented(node):
            continue
        if isinstance(node, ast.ClassDef):
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            if any(map(documented, methods)) or is_shown_by_others(node):
                continue
        lacking.append(node.name)
    assert not lacking, "give each an example of a few lines"
