"""The command's root: global options, and which function serves which command."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mynah import __version__
from mynah.cli import (
    bench,
    convert,
    doctor,
    evaluate,
    models,
    pull,
    reading,
    revoice,
    say,
    serve,
    voices,
)
from mynah.cli.failures import reported, settings

app = typer.Typer(
    name="mynah",
    help="Text to speech on your own machine: nothing is sent anywhere.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("say")(reported(say.say))
app.command("revoice")(reported(revoice.revoice))
app.command("normalize")(reported(reading.normalize))
app.command("styles")(reported(reading.styles))
app.add_typer(voices.app, name="voices")
app.add_typer(models.app, name="models")
app.command("pull")(reported(pull.pull))
app.command("convert")(reported(convert.convert))
app.command("serve")(reported(serve.serve))
app.command("doctor")(reported(doctor.doctor))
app.command("bench")(reported(bench.bench))
app.command("eval")(reported(evaluate.evaluate))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mynah {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks instead of short messages.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Never use the network, as MYNAH_OFFLINE=1 does.")
    ] = False,
) -> None:
    """Text to speech on your own machine: nothing is sent anywhere."""
    settings.debug = debug
    if offline:
        os.environ["MYNAH_OFFLINE"] = "1"


def _reopen_closed_streams() -> None:
    """Stand in for streams that the caller closed (`<&-`), lest a file opened later become one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def main() -> None:
    """Run the command line of this process."""
    _reopen_closed_streams()
    # Redirected output must not die on a character that the system's code page lacks.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app()
