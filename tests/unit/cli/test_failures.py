from __future__ import annotations

import errno

import pytest
import typer

from mynah.cli.failures import reported
from mynah.errors import (
    BackendError,
    InvalidRequestError,
    ModelNotFoundError,
    OutputError,
    UnknownVoiceError,
)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InvalidRequestError("wrong", hint="do right"), 2, "error: wrong\n  do right\n"),
        (UnknownVoiceError("who?"), 2, "error: who?\n"),
        (ModelNotFoundError("where?"), 2, "error: where?\n"),
        (BackendError("broken"), 1, "error: broken\n"),
        (OutputError("full"), 1, "error: full\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (OSError(errno.ENOSPC, "No space"), 1, "error: cannot write standard output: No space"),
        (OSError(errno.ENOENT, "gone"), 1, "error: FileNotFoundError: "),
        (MemoryError(), 1, "error: out of memory"),
        (ZeroDivisionError("bug"), 1, "error: ZeroDivisionError: bug\n  this is a bug"),
    ],
)
def test_errors_become_codes_and_messages(
    capfd: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as caught:
        reported(command)()
    assert caught.value.exit_code == code
    assert capfd.readouterr().err.startswith(said)


def test_what_typer_raises_is_left_to_it() -> None:
    def leaves() -> None:
        raise typer.Exit(3)

    def complains() -> None:
        raise typer.BadParameter("no")

    with pytest.raises(typer.Exit):
        reported(leaves)()
    with pytest.raises(typer.BadParameter):
        reported(complains)()


def test_a_command_returns_its_result() -> None:
    assert reported(lambda: 7)() == 7


def test_ctrl_c_while_a_module_loads_is_no_bug(capfd: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise ImportError("initialization failed") from KeyboardInterrupt()

    with pytest.raises(typer.Exit) as caught:
        reported(command)()
    assert caught.value.exit_code == 130
    assert capfd.readouterr().err == "stopped\n"
