"""``mynah doctor``: what is installed, what is missing, and a numeric self-test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from mynah.cli import options

if TYPE_CHECKING:
    from mynah.cli.checks import Check


def doctor(
    model: options.Model = "nano",
    json: options.Json = False,
    quick: Annotated[bool, typer.Option("--quick", help="Leave the self-test out.")] = False,
) -> None:
    """Check this installation; the exit code is 1 if something that is needed does not work."""
    from mynah.cli.console import show_json

    found = []
    for check in _checks(model, self_test=not quick):
        found.append(check)
        if not json:
            typer.echo(f"{_MARKS[check.state]:>4}  {check.name}: {check.detail}")
            if check.cure:
                typer.echo(f"      {check.cure}")
    failed = [check.name for check in found if check.state == "failed"]
    if json:
        show_json([check.as_dict() for check in found])
    elif failed:
        typer.echo(f"\nnot working: {', '.join(failed)}")
    else:
        typer.echo("\nall that is needed works")
    if failed:
        raise typer.Exit(1)


def _checks(model: str, *, self_test: bool) -> Iterator[Check]:
    from mynah.cli import checks, selftest, speed
    from mynah.hub import find_model

    files_are_right = False
    yield speed.native_kernels()
    for check in checks.all_checks(model):
        files_are_right = check.state == "ok"
        yield check
    if not files_are_right:
        return
    yield speed.int8_speed(find_model(model))
    if self_test:
        yield from selftest.self_tests(model)


_MARKS = {"ok": "ok", "missing": "--", "slow": "slow", "failed": "FAIL"}
