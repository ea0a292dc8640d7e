"""Speakers of a release (``spk2info.pt``) as voices.

Two kinds of entry exist: a released speaker, of which only the vector is kept, and one that was
saved from a recording, with tokens, mel and the ids of its words.
"""

from __future__ import annotations

import base64
import json
import pickle
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mynah.config import ModelConfig
from mynah.errors import InvalidRequestError, ModelFormatError
from mynah.export.official_folder import OfficialFolder
from mynah.hub.releases import SPEAKERS
from mynah.text.special_tokens import END_OF_PROMPT
from mynah.types import Voice, check_voice_name

_BAD_CHARACTERS = re.compile(r"[^\w-]+")
_LONGEST_NAME = 64
# The released speakers say in their name what they speak.
_LANGUAGES = {"中文": "zh", "英文": "en", "日语": "ja", "粤语": "yue", "韩语": "ko"}
_DAMAGED = "the file is damaged or of another kind; download the model again"

Note = Callable[[str], None]


def read_speakers(folder: OfficialFolder, note: Note) -> list[Voice]:
    """Import the speakers of a release, in their order; none if it has no such file.

    Args:
        folder: the release.
        note: told about speakers that got another name, or are of no use.

    Raises:
        ModelFormatError: if the file cannot be read, or an entry does not fit the model.
    """
    path = folder.path / SPEAKERS
    if not path.is_file():
        return []
    try:
        table = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise ModelFormatError(f"cannot read {path}: {error}", hint=_DAMAGED) from error
    if not isinstance(table, dict):
        raise ModelFormatError(f"{path} holds a {type(table).__name__}, no table of speakers")
    voices: list[Voice] = []
    decode: Callable[[Sequence[int]], str] | None = None
    for original, entry in table.items():
        name = _voice_name(str(original), {voice.name for voice in voices})
        if name != original:
            note(f"speaker {original!r} is called {name!r} here")
        if not isinstance(entry, dict):
            raise ModelFormatError(f"{path}: speaker {original!r} is no table", hint=_DAMAGED)
        decode = decode or _decoder(folder)
        try:
            voices.append(_voice(name, str(original), entry, folder.config, decode))
        except (InvalidRequestError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelFormatError(
                f"{path}: speaker {original!r} cannot be used: {error}", hint=_DAMAGED
            ) from error
    return voices


def _voice(
    name: str,
    original: str,
    entry: Mapping[str, Any],
    config: ModelConfig,
    decode: Callable[[Sequence[int]], str],
) -> Voice:
    vector = _first(entry, "flow_embedding", "embedding", "llm_embedding").reshape(-1)
    if len(vector) != config.flow.speaker_dim:
        raise ValueError(f"{len(vector)} numbers describe the voice, not {config.flow.speaker_dim}")
    tokens: npt.NDArray[Any] = np.zeros(0, np.int64)
    mel = np.zeros((0, config.flow.n_mels), np.float32)
    transcript = ""
    if "flow_prompt_speech_token" in entry or "speech_token" in entry:
        tokens = _first(entry, "flow_prompt_speech_token", "speech_token").reshape(-1)
        mel = _first(entry, "prompt_speech_feat", "speech_feat")
        tokens, mel = _aligned(tokens, mel.reshape(-1, config.flow.n_mels), config)
        transcript = _transcript(entry.get("prompt_text"), decode)
    return Voice(
        name=name,
        model_id=config.model_id,
        transcript=transcript,
        speech_tokens=tokens.astype(np.int64),
        mel=mel.astype(np.float32),
        speaker_embedding=vector.astype(np.float32),
        language=next((code for word, code in _LANGUAGES.items() if original.startswith(word)), ""),
        consent="speaker of the released model",
    )


def _first(entry: Mapping[str, Any], *keys: str) -> npt.NDArray[Any]:
    for key in keys:
        if isinstance(value := entry.get(key), Tensor):
            found: npt.NDArray[Any] = (
                value.float().numpy() if value.is_floating_point() else (value.numpy())
            )
            return found
    raise KeyError(f"none of {', '.join(keys)}")


def _aligned(
    tokens: npt.NDArray[Any], mel: npt.NDArray[Any], config: ModelConfig
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The stretch that both tokens and frames cover."""
    ratio = config.flow.token_mel_ratio
    if ratio is None:
        return tokens, mel
    size = min(len(tokens), len(mel) // ratio)
    return tokens[:size], mel[: size * ratio]


def _transcript(prompt: object, decode: Callable[[Sequence[int]], str]) -> str:
    """The words, without what the model's template puts before them."""
    if isinstance(prompt, Tensor):
        prompt = decode(prompt.reshape(-1).tolist())
    if not isinstance(prompt, str):
        return ""
    return prompt.rpartition(END_OF_PROMPT)[2].strip()


def _voice_name(original: str, taken: set[str]) -> str:
    name = _BAD_CHARACTERS.sub("-", original).strip("-")[: _LONGEST_NAME - 4] or "speaker"
    try:
        check_voice_name(name)
    except InvalidRequestError:
        name = f"speaker-{name}"[: _LONGEST_NAME - 4]
    unique, count = name, 2
    while unique in taken:
        unique, count = f"{name}-{count}", count + 1
    return unique


def _decoder(folder: OfficialFolder) -> Callable[[Sequence[int]], str]:
    """From ids to text, with the release's own vocabulary."""
    files = folder.tokenizer_files()
    try:
        if "vocab.json" in files:
            pieces = _qwen_pieces(files["vocab.json"])
        elif "tokenizer.json" in files:
            content = json.loads(files["tokenizer.json"].read_text(encoding="utf-8"))
            pieces = _bytes_of(content["model"]["vocab"])
        else:
            pieces = _whisper_pieces(next(iter(files.values())))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ModelFormatError(
            f"cannot read the text vocabulary of {folder.path}: {error}", hint=_DAMAGED
        ) from error
    base = 1 + max(pieces)
    pieces |= {
        base + index: token.encode()
        for index, token in enumerate(folder.config.special_tokens or ())
    }

    def decode(ids: Iterable[int]) -> str:
        return b"".join(pieces.get(i, b"") for i in ids).decode("utf-8", errors="replace")

    return decode


def _qwen_pieces(path: Path) -> dict[int, bytes]:
    return _bytes_of(json.loads(path.read_text(encoding="utf-8")))


def _bytes_of(vocabulary: Mapping[str, int]) -> dict[int, bytes]:
    """Undo the table that writes bytes as printable characters (GPT-2)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    table = {chr(byte): byte for byte in plain}
    table |= {chr(256 + index): byte for index, byte in enumerate(others)}
    return {
        index: bytes(table[character] for character in entry if character in table)
        for entry, index in vocabulary.items()
    }


def _whisper_pieces(path: Path) -> dict[int, bytes]:
    lines = (line.split() for line in path.read_bytes().splitlines() if line.strip())
    return {int(rank): base64.b64decode(token) for token, rank in lines}
