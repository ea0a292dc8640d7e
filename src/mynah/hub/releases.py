"""A released folder seen from outside: its generation and its files. No package is needed for it.

What stands in the files is read by ``mynah.export``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mynah.errors import ModelNotFoundError
from mynah.hub.catalogue import LM_WEIGHTS, LM_WEIGHTS_RL, WHISPER_VOCABULARY
from mynah.hub.folders import CONFIG_NAME, MANIFEST_NAME

YAML_NAMES: Mapping[str, int] = {"cosyvoice.yaml": 1, "cosyvoice2.yaml": 2, "cosyvoice3.yaml": 3}
"""File name -> generation, in the order in which the official code looks for them."""

QWEN_FOLDER = "CosyVoice-BlankEN"
SPEAKERS = "spk2info.pt"
SPEAKER_ENCODER = "campplus.onnx"

_QWEN_FILES = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json")


def is_official_folder(path: Path) -> bool:
    """Whether a folder looks like a release that was not converted."""
    return any((path / name).is_file() for name in YAML_NAMES)


def find_yaml(path: Path) -> str:
    """Name of the file that describes a release.

    Raises:
        ModelNotFoundError: if there is none; it says what the folder is instead.
    """
    for name in YAML_NAMES:
        if (path / name).is_file():
            return name
    if not path.exists():
        raise ModelNotFoundError(f"there is no folder {path}", hint="check the path")
    if not path.is_dir():
        raise ModelNotFoundError(
            f"{path} is a file, not the folder of a released model", hint="pass the folder"
        )
    if (path / CONFIG_NAME).is_file() and (path / MANIFEST_NAME).is_file():
        raise ModelNotFoundError(
            f"{path} is converted already", hint=f"speak with it: mynah say ... -m {path}"
        )
    raise ModelNotFoundError(
        f"{path} is no folder of a released model: it has none of {', '.join(YAML_NAMES)}",
        hint=_release_inside(path),
    )


def weights_name(*, rl: bool) -> str:
    """File of the language model's weights."""
    return LM_WEIGHTS_RL if rl else LM_WEIGHTS


def speech_tokenizer_name(generation: int) -> str:
    """File of the speech tokenizer."""
    return f"speech_tokenizer_v{generation}.onnx"


def tokenizer_files(path: Path, generation: int) -> dict[str, Path]:
    """Files of the text tokenizer: name in a folder ``tokenizer`` -> path.

    Raises:
        ModelNotFoundError: if they are missing.
    """
    if generation == 1:
        return {WHISPER_VOCABULARY: _vocabulary(path)}
    folder = path / QWEN_FOLDER
    found = {name: file for name in _QWEN_FILES if (file := folder / name).is_file()}
    if not {"vocab.json", "merges.txt"} <= found.keys() and "tokenizer.json" not in found:
        raise ModelNotFoundError(
            f"{folder} holds no tokenizer: no vocab.json with merges.txt",
            hint="download the folder again, or copy the files from the release",
        )
    return found


def used_files(path: Path, *, rl: bool = False) -> dict[str, Path]:
    """Everything that a conversion reads, by its name in the folder.

    Args:
        path: of the release.
        rl: with the language model after reinforcement learning.

    Raises:
        ModelNotFoundError: if it is no release, or a file is missing.
    """
    yaml_name = find_yaml(path)
    generation = YAML_NAMES[yaml_name]
    names = [
        yaml_name, weights_name(rl=rl), "flow.pt", "hift.pt",
        SPEAKER_ENCODER, speech_tokenizer_name(generation),
    ]  # fmt: skip
    if generation > 1:
        names.append(f"{QWEN_FOLDER}/config.json")
    files = {name: path / name for name in names}
    missing = [name for name, file in files.items() if not file.is_file()]
    if missing:
        raise ModelNotFoundError(
            f"{path} has no {', '.join(missing)}",
            hint="the folder is incomplete: download it again with `mynah pull`",
        )
    if (path / SPEAKERS).is_file():
        files[SPEAKERS] = path / SPEAKERS
    for file in tokenizer_files(path, generation).values():
        files[file.relative_to(path).as_posix()] = file
    return files


def _vocabulary(path: Path) -> Path:
    files = sorted(path.glob("*.tiktoken"))
    if (path / WHISPER_VOCABULARY) in files:
        return path / WHISPER_VOCABULARY
    if len(files) == 1:
        return files[0]
    raise ModelNotFoundError(
        f"{path} has no text vocabulary ({WHISPER_VOCABULARY})",
        hint="`mynah pull` fetches it; or copy whisper/assets/multilingual.tiktoken from "
        "https://github.com/openai/whisper into the folder",
    )


def _release_inside(path: Path) -> str:
    """The cure for a folder that is none: perhaps its parent was given."""
    try:
        inside = sorted(child for child in path.iterdir() if is_official_folder(child))
    except OSError:
        inside = []
    if inside:
        return f"did you mean {inside[0]}?"
    return "pass the folder that was downloaded from Hugging Face or ModelScope"
