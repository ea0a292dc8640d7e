"""Refuse Python files over 400 lines and functions over 80: the tree has to stay readable.

python scripts/check_lengths.py [FOLDER ...]
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80
FOLDERS = ("src", "tests", "scripts", "recipes")


def problems(path: Path) -> Iterator[str]:
    """Say what is too long in one file."""
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    if lines > MAX_FILE_LINES:
        yield f"{path}: {lines} lines, at most {MAX_FILE_LINES}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield (
                    f"{path}:{node.lineno}: {node.name} has {length} lines, "
                    f"at most {MAX_FUNCTION_LINES}"
                )


def main() -> int:
    """Check every file below the folders; return the exit code."""
    folders = [Path(name) for name in sys.argv[1:] or FOLDERS]
    paths = sorted(path for folder in folders for path in folder.rglob("*.py"))
    found = [problem for path in paths for problem in problems(path)]
    for line in found:
        print(line)
    if not found:
        print(f"{len(paths)} files, none too long")
    return 1 if found or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
