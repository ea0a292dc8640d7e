"""From exceptions to exit codes and short messages.

0 = done; 1 = something failed; 2 = the request was wrong; 130 = stopped with Ctrl-C;
141 = the reader of a pipe went away.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn, ParamSpec, TypeVar

import typer

from mynah.errors import InvalidRequestError, ModelNotFoundError, OutputError, SynthesisError
from mynah.files import output_error

P = ParamSpec("P")
R = TypeVar("R")

FAILED, MISUSED, INTERRUPTED, PIPE_CLOSED = 1, 2, 130, 141
_BAD_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)


@dataclass
class Settings:
    """What the root command was told."""

    debug: bool = False


settings = Settings()


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """Wrap a command: whatever it raises ends the process with a message and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = command(*args, **kwargs)
            sys.stdout.flush()  # a closed pipe must show here, not while the process ends
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            _end(INTERRUPTED, "stopped")
        except SynthesisError as error:
            if _is_closed_pipe(error):
                _leave_quietly()
            if isinstance(error, OutputError):
                _drop_unwritten()
            _end(code_of(error), f"error: {error.message}", error.hint)
        except BrokenPipeError:
            _leave_quietly()
        except MemoryError:
            _end(FAILED, "error: out of memory", "close other programs, or speak a shorter text")
        except OSError as error:  # standard output was printed to and cannot take it
            if error.errno not in _BAD_OUTPUT:
                _end_as_bug(error)
            _drop_unwritten()
            failure = output_error("standard output", error)
            _end(FAILED, f"error: {failure.message}", failure.hint)
        except Exception as error:  # the last place that can turn it into a message
            if _is_usage_error(error):
                raise
            if _is_interrupt(error):
                _end(INTERRUPTED, "stopped")
            _end_as_bug(error)
        return result

    return run


def code_of(error: SynthesisError) -> int:
    """The exit code that an error stands for."""
    return MISUSED if isinstance(error, InvalidRequestError | ModelNotFoundError) else FAILED


def _end(code: int, message: str, hint: str = "") -> NoReturn:
    if settings.debug:
        traceback.print_exc()
    typer.echo(message, err=True)
    if hint:
        typer.echo(f"  {hint}", err=True)
    raise typer.Exit(code)


def _end_as_bug(error: Exception) -> NoReturn:
    message = f"error: {type(error).__name__}: {error}"
    _end(FAILED, message, "this is a bug in mynah; `mynah --debug ...` shows where")


def _is_interrupt(error: BaseException) -> bool:
    """Whether Ctrl-C is behind it: compiled modules make an ImportError of it while they load."""
    origin = error.__cause__ or error.__context__
    return origin is not None and (isinstance(origin, KeyboardInterrupt) or _is_interrupt(origin))


def _is_closed_pipe(error: BaseException) -> bool:
    return isinstance(error.__cause__, BrokenPipeError)


def _is_usage_error(error: Exception) -> bool:
    """Whether the argument parser knows how to show it (its classes moved between versions)."""
    return any(kind.__name__ == "ClickException" for kind in type(error).__mro__)


def _leave_quietly() -> NoReturn:
    _silence_stdout()
    raise typer.Exit(PIPE_CLOSED)


def _drop_unwritten() -> None:
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        _silence_stdout()


def _silence_stdout() -> None:
    # What is still buffered would raise again when the interpreter closes the stream.
    quiet = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):  # no file behind it
        os.dup2(quiet, sys.stdout.fileno())
    os.close(quiet)
