"""``mynah convert``: a released folder becomes a model that runs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Variants = Annotated[
    list[str] | None,
    typer.Option(
        "--variant",
        help="int8 (default), int4, float16, float32, or bf16; and rl for the language model "
        "after reinforcement learning. May be given twice.",
    ),
]


def convert(
    folder: Annotated[Path, typer.Argument(help="The released folder; it is only read.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to; default: installed under its name."),
    ] = None,
    variant: Variants = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Model id; default: from the folder's name.")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="For checking the result.")] = 2,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Convert the folder of an official model.

    Every graph is compared with the released weights; how far it is off stands in manifest.json.
    Converting again does nothing while the release is the same.
    """
    from mynah.cli.console import note
    from mynah.cli.places import check_folder
    from mynah.files import expand_user
    from mynah.hub import home
    from mynah.hub.variants import installed_name, parse_variants
    from mynah.ready import convert_folder, model_id_of

    precision, rl = parse_variants(variant or [])
    source = expand_user(folder)
    if out is None:
        model = name or model_id_of(source, rl=rl)
        out = home() / "models" / installed_name(model, precision, rl=rl)
    else:
        out = check_folder(expand_user(out))
    made = convert_folder(
        source,
        out,
        precision=precision,
        rl=rl,
        threads=threads,
        name=name,
        report=(lambda message: None) if quiet else note,
    )
    typer.echo(str(made.path))
