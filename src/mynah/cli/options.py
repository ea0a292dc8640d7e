"""Options that several commands share, and opening a model with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mynah.api import TTS
    from mynah.hub import ModelFolder

Model = Annotated[
    str,
    typer.Option("--model", "-m", help="Name of a model, or the path of a model folder."),
]
Backend = Annotated[str, typer.Option("--backend", help="auto, native, onnx, or torch (an extra).")]
Device = Annotated[
    str, typer.Option("--device", help="cpu; with the torch backend also cuda, or auto.")
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        help="Threads per network; default 1 for small models, else up to 4.",
    ),
]
Quality = Annotated[
    str,
    typer.Option("--quality", help="exact, balanced or fast: fewer steps of the flow."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def find(model: str, *, download: bool = True) -> ModelFolder:
    """Find a model; a released folder is converted, an official name pulled, after asking."""
    from mynah.cli.console import note
    from mynah.cli.pull import DownloadProgress, confirm_download
    from mynah.ready import ready_model

    with DownloadProgress() as progress:
        return ready_model(
            model,
            download=download,
            confirm=confirm_download,
            report=note,
            progress=progress.update,
        )


def load(model: str, device: str, backend: str, threads: int | None, quality: str = "exact") -> TTS:
    """Open a model; see ``find``."""
    from mynah.api import TTS

    return TTS.load(
        find(model).path, device=device, backend=backend, threads=threads, quality=quality
    )
