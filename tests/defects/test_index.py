"""The list of defects names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LISTS = ("tests/defects/README.md", "docs/models/differences.md")
_NAMED = re.compile(r"`(tests/[\w/.]+\.py)?::(\w+)`")


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("source", LISTS)
def test_every_test_that_is_named_exists(source: str) -> None:
    named, path = 0, ""
    for line in (ROOT / source).read_text(encoding="utf-8").splitlines():
        for match in _NAMED.finditer(line):
            path = match[1] or path  # a name alone belongs to the file before it
            assert match[2] in functions_of(path), f"{path} has no {match[2]}"
            named += 1
    assert named > 15


def test_every_defect_test_is_listed() -> None:
    text = (ROOT / LISTS[0]).read_text(encoding="utf-8")
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        if file == Path(__file__):
            continue
        names = [name for name in functions_of(f"tests/defects/{file.name}") if name[:5] == "test_"]
        missing = [name for name in names if f"::{name}`" not in text]
        assert not missing, f"{file.name}: {missing} are not in the list"
