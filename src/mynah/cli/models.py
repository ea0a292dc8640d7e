"""``mynah models``: the models on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mynah.cli import options
from mynah.cli.failures import reported

if TYPE_CHECKING:
    from mynah.hub import ModelFolder

app = typer.Typer(help="List and show models.", no_args_is_help=True)


@app.command("list")
@reported
def list_models(json: options.Json = False) -> None:
    """List the models that can be used by name."""
    from mynah.cli.console import show_json, show_table
    from mynah.errors import ModelError
    from mynah.hub import find_model, model_names

    found: list[dict[str, Any]] = []
    for name in model_names():
        try:
            found.append(_facts(find_model(name, checksums=False)))
        except ModelError as error:
            found.append({"name": name, "state": str(error)})
    if json:
        show_json(found)
        return
    columns = ("name", "languages", "parts", "size", "state")
    rows = [tuple(str(facts.get(column, "")) for column in columns) for facts in found]
    show_table(columns, rows)


@app.command()
@reported
def show(
    name: Annotated[str, typer.Argument(help="Name or path of a model.")] = "nano",
    json: options.Json = False,
) -> None:
    """Show what a model is and can do; its files are checked."""
    from mynah.cli.console import show_facts, show_json

    folder = options.find(name, download=False)  # whoever only looks wants no gigabytes
    facts = _facts(folder) | _abilities(folder)
    if json:
        show_json(facts | {"configuration": folder.config().model_dump(mode="json")})
    else:
        show_facts(facts)


def _facts(folder: ModelFolder) -> dict[str, Any]:
    from mynah.cli.console import megabytes

    config = folder.config()
    return {
        "name": folder.name,
        "model id": config.model_id,
        "family": config.family,
        "languages": ", ".join(config.languages),
        "parts": f"{len(folder.files)} files",
        "size": megabytes(folder.size),
        "state": "ready",
    }


def _backends(folder: ModelFolder) -> list[str]:
    """Names of those that run the model here."""
    from mynah.backends.native.stages import stage_obstacle
    from mynah.backends.registry import STAGES, WEIGHTS

    names = []
    if any(name.startswith("lm") and name.endswith(".onnx") for name in folder.files):
        config = folder.config()
        if any(stage_obstacle(stage, folder.path, config) is None for stage in STAGES):
            names.append("native")
        names.append("onnx")
    return [*names, "torch"] if WEIGHTS in folder.files else names


def _abilities(folder: ModelFolder) -> dict[str, Any]:
    from mynah.backends.encoders import SPEAKER_GRAPHS, TOKENIZER_GRAPH

    config = folder.config()
    has_encoders = TOKENIZER_GRAPH in folder.files and not folder.files.keys().isdisjoint(
        SPEAKER_GRAPHS
    )
    return {
        "sample rate": f"{config.sample_rate} Hz",
        "token rate": f"{config.token_rate} Hz",
        "makes voices from recordings": "yes" if has_encoders else "no",
        "follows instructions": "yes" if config.instruct else "no",
        "backends": ", ".join(_backends(folder)),
        "default voice": config.default_voice or "",
        "folder": str(folder.path),
    }
