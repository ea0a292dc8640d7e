"""Printing: tables and facts for people, tab-separated text and JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer


def show_json(value: Any) -> None:
    """Print a value as JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def show_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows: aligned on a terminal, tab-separated without headers in a pipe."""
    if not sys.stdout.isatty():
        for row in rows:
            typer.echo("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def show_facts(facts: Mapping[str, object]) -> None:
    """Print names and values, one pair a line; empty values are left out."""
    shown = {name: str(value) for name, value in facts.items() if value not in ("", None)}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        typer.echo(f"{name:<{width}}  {value}")


def note(message: str) -> None:
    """Tell a person something beside the result; programs that read stdout do not see it."""
    typer.echo(message, err=True)


def megabytes(size: float) -> str:
    """Return a size in bytes as text."""
    return f"{size / 1e6:.1f} MB"
