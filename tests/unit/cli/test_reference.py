"""docs/reference/cli.md is what the commands are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_reference_is_fresh() -> None:
    script = ROOT / "scripts" / "make_cli_reference.py"
    found = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_command_and_option_has_a_description() -> None:
    page = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    assert "## `mynah say [TEXT]`" in page
    assert "| `-o, --output OUTPUT` |" in page
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        assert not cells or cells[1], line
