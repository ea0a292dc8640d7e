"""``mynah pull``: download an official model and make it ready."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from mynah.cli.convert import Variants

if TYPE_CHECKING:
    from mynah.hub.download import Plan


def pull(
    name: Annotated[
        str | None, typer.Argument(help="Name of an official model; none = list them.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--source", help="hf or modelscope; default: hf, then modelscope."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit; default: newest.")
    ] = None,
    variant: Variants = None,
    keep_source: Annotated[
        bool, typer.Option("--keep-source", help="Keep the released files after converting.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Download a model from Hugging Face or ModelScope and convert it.

    Interrupted downloads go on where they stopped. Afterwards nothing is downloaded any more.
    """
    from mynah.cli.console import note
    from mynah.hub import model_names
    from mynah.hub.variants import parse_variants
    from mynah.ready import known_model, pull_model

    if name is None:
        _list_models()
        return
    precision, rl = parse_variants(variant or [])
    if known_model(name) is None and name in model_names():
        note(f"{name} is installed; it is none of the models that can be downloaded")
        return
    with DownloadProgress(quiet=quiet) as progress:
        folder = pull_model(
            name,
            source=source,
            revision=revision,
            precision=precision,
            rl=rl,
            keep_source=keep_source,
            report=(lambda message: None) if quiet else note,
            progress=progress.update,
        )
    typer.echo(folder.name)


def confirm_download(plan: Plan) -> bool:
    """Ask whether to download, where somebody can answer; elsewhere say so and go on."""
    from mynah.cli.console import megabytes, note

    what = f"{megabytes(plan.size)} from {plan.source} ({plan.listing.repository})"
    if sys.stdin.isatty() and sys.stderr.isatty():
        question = f"{plan.model.name} is not installed. Download {what}?"
        return typer.confirm(question, default=True, err=True)
    note(f"{plan.model.name} is not installed: downloading {what}")
    return True


def _list_models() -> None:
    from mynah.cli.console import show_table
    from mynah.hub import model_names
    from mynah.hub.catalogue import MODELS

    installed = set(model_names())
    rows = [
        (
            model.name,
            "installed" if model.name in installed else "",
            model.repositories["hf"],
            model.repositories["modelscope"],
            model.licence,
        )
        for model in MODELS.values()
    ]
    show_table(("name", "state", "Hugging Face", "ModelScope", "licence"), rows)


class DownloadProgress:
    """A bar on standard error, if that is a terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        """Prepare it; it appears with the first block."""
        self._quiet = quiet or not sys.stderr.isatty()
        self._bar: Any = None

    def update(self, name: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` bytes are there, lately of the file ``name``."""
        if self._quiet:
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

            self._bar = Progress(
                "{task.description}",
                BarColumn(),
                DownloadColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(name, total=total)
        self._bar.update(self._task, description=name, completed=done)
        if done >= total:
            self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar, self._quiet = None, True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
