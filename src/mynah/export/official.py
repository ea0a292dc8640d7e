"""From a released folder to a model folder that runs without torch, checked graph by graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mynah import __version__
from mynah.backends.encoders import TOKENIZER_GRAPH
from mynah.backends.registry import STAGES
from mynah.errors import InvalidRequestError, ModelError, OutputError
from mynah.export.official_folder import OfficialFolder
from mynah.export.shrink import Variant
from mynah.export.speakers import read_speakers
from mynah.export.writer import LIMITS, ModelWriter, WeightsType
from mynah.files import output_error
from mynah.hub import CONFIG_NAME, ModelFolder, checksums, verify_model
from mynah.hub.releases import SPEAKER_ENCODER
from mynah.hub.variants import DEFAULT_PRECISION, check_precision
from mynah.pipeline.readers import TOKENIZER_FOLDER

Report = Callable[[str], None]
"""Told about every step, in words."""


@dataclass(frozen=True)
class _Recipe:
    """What is written for a precision."""

    variants: Mapping[str, Variant]
    graphs: bool = True
    weights: WeightsType | None = None


# The vocoder stays exact: errors of F0 and of the phase add up, and it is a small part.
_RECIPES: Mapping[str, _Recipe] = {
    "float32": _Recipe({}, weights="float32"),
    "float16": _Recipe({"lm": "float16", "flow": "float16"}, weights="float16"),
    "bf16": _Recipe({}, graphs=False, weights="bfloat16"),
    "int8": _Recipe({"lm": "int8", "flow": "int8"}),
    "int4": _Recipe({"lm": "int4", "flow": "int8"}),
}


def convert_official(
    source: OfficialFolder,
    out: Path,
    *,
    precision: str = DEFAULT_PRECISION,
    rl: bool = False,
    threads: int = 1,
    report: Report = lambda message: None,
) -> ModelFolder:
    """Convert a released folder, stage by stage; the source is only read.

    Nothing happens if ``out`` was made from the same files by the same version in the same way.

    Args:
        source: the release.
        out: the model folder; an older one there is replaced when the new one is complete.
        precision: of ``mynah.hub.variants``.
        rl: take the language model after reinforcement learning.
        threads: for checking the graphs.
        report: told about every step.

    Raises:
        InvalidRequestError: for an unknown precision, or if ``out`` is no place for a model.
        ModelNotFoundError: if a file of the release is missing.
        ModelFormatError: if a file of the release is damaged or does not fit the others.
        ConversionError: if a graph does not compute what the released weights do.
        OutputError: if the folder cannot be written.
    """
    recipe = _RECIPES[check_precision(precision)]
    _check_place(source.path, out)
    record = _record(source, precision, rl=rl)
    finished = _finished(out, record)
    if finished is not None:
        return finished
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        _write(source, out, recipe, record, rl=rl, threads=threads, report=report)
    except OutputError:
        raise
    except OSError as error:
        raise output_error(out, error) from error
    finally:
        torch.set_num_threads(before)
    return verify_model(out, checksums=False)


def _write(
    source: OfficialFolder,
    out: Path,
    recipe: _Recipe,
    record: Mapping[str, Any],
    *,
    rl: bool,
    threads: int,
    report: Report,
) -> None:
    source.check_vocabulary()
    voices = read_speakers(source, report)
    config = source.config
    if voices:
        config = config.model_copy(update={"default_voice": voices[0].name})
    with ModelWriter(
        out,
        config,
        variants=recipe.variants,
        graphs=recipe.graphs,
        weights=recipe.weights,
        limits=LIMITS,
        threads=threads,
    ) as writer:
        for stage in STAGES:
            report(f"converting {stage}")
            # No name holds the module: its memory is free when the next stage is read.
            found = writer.add_stage(stage, source.load_stage(stage, rl=rl))
            for name, deviation in found.items():
                report(
                    f"  {name}: largest difference {deviation.max_abs:.2g}, "
                    f"{deviation.relative:.2g} of the output"
                )
        writer.add_noise()
        writer.add_voices(voices)
        tokenizer = source.tokenizer_files()
        writer.add_files(
            {
                TOKENIZER_GRAPH: source.path / source.speech_tokenizer,
                SPEAKER_ENCODER: source.path / SPEAKER_ENCODER,
                **{f"{TOKENIZER_FOLDER}/{name}": path for name, path in tokenizer.items()},
            }
        )
        writer.set_conversion(record)


def _record(source: OfficialFolder, precision: str, *, rl: bool) -> dict[str, Any]:
    """What the result depends on; kept in the manifest."""
    files = checksums(source.used_files(rl=rl))
    return {
        "converter": f"mynah {__version__}",
        "variant": precision,
        "rl": rl,
        "generation": source.generation,
        "source": dict(source.source),
        "files": {name: asdict(entry) for name, entry in files.items()},
    }


def _finished(out: Path, record: Mapping[str, Any]) -> ModelFolder | None:
    """The folder, if it is whole and was made exactly so."""
    if not (out / CONFIG_NAME).is_file():
        return None
    try:
        folder = verify_model(out)
    except ModelError:  # damaged: made again
        return None
    return folder if folder.conversion == record else None


def _check_place(source: Path, out: Path) -> None:
    inside, place = source.resolve(), out.resolve()
    if place == inside or inside in place.parents:
        raise InvalidRequestError(
            f"{out} is inside of the released folder, which is never changed",
            hint="choose a folder elsewhere with --out",
        )
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / CONFIG_NAME).is_file()):
        raise InvalidRequestError(
            f"{out} holds something else than a model and is not replaced",
            hint="choose another folder with --out",
        )
