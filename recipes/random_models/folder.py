"""A complete model folder in the official format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recipes.random_models import draw, encoders, vocabulary
from recipes.random_models.sizes import N_MELS, SPEAKER_DIM, Size, constructor_values
from recipes.random_models.yaml_text import NAMES, yaml_text

QWEN_FOLDER = "CosyVoice-BlankEN"
SFT_SPEAKERS = ("中文女", "英文男")
ZERO_SHOT_SPEAKER = "my_zero_shot_spk"
_PROMPT_TOKENS = 30
_ENCODER_WIDTH: dict[Size, int] = {"tiny": 8, "full": 512}


@dataclass(frozen=True)
class Spelling:
    """Variations between releases that a reader must accept."""

    old_weight_norm: bool = False
    """``weight_g`` and ``weight_v``, as torch wrote them before 2.0."""
    generator_prefix: bool = False
    """``generator.`` before every vocoder key, as in a training checkpoint."""


def write_folder(
    folder: Path,
    generation: int,
    size: Size = "tiny",
    *,
    seed: int = 0,
    spelling: Spelling | None = None,
    reinforced: bool = False,
) -> Path:
    """Write a folder that must not exist yet; the same arguments give the same weights.

    Args:
        folder: where to.
        generation: 1, 2 or 3.
        size: ``tiny`` (below 2 MB) or ``full``.
        seed: of all values.
        spelling: variations of the vocoder's keys.
        reinforced: add ``llm.rl.pt`` with other values.
    """
    values = constructor_values(generation, size)
    spelling = spelling or Spelling()
    tiny = size == "tiny"
    folder.mkdir(parents=True)
    (folder / NAMES[generation]).write_text(yaml_text(values), encoding="utf-8")
    torch.save(draw.language_model(values, seed), folder / "llm.pt")
    if reinforced:
        torch.save(draw.language_model(values, seed + 1), folder / "llm.rl.pt")
    torch.save(draw.flow(values, seed), folder / "flow.pt")
    prefix = "generator." if spelling.generator_prefix else ""
    hift = draw.vocoder(values, seed, old_style=spelling.old_weight_norm, prefix=prefix)
    torch.save(hift, folder / "hift.pt")
    width = _ENCODER_WIDTH[size]
    encoders.write_speaker_encoder(folder / "campplus.onnx", width, seed)
    encoders.write_speech_tokenizer(
        folder / f"speech_tokenizer_v{generation}.onnx",
        values["speech_vocabulary"],
        2 if generation == 1 else 4,
        width,
        seed,
    )
    if generation == 1:
        vocabulary.write_whisper(folder / "multilingual.tiktoken", tiny=tiny)
        end_of_prompt = None
    else:
        base = vocabulary.write_qwen(folder / QWEN_FOLDER, tiny=tiny, sizes=values["qwen"])
        end_of_prompt = base + 3  # after endoftext, im_start, im_end
    torch.save(_speakers(values, seed, end_of_prompt), folder / "spk2info.pt")
    return folder


def _speakers(
    values: Mapping[str, Any], seed: int, end_of_prompt: int | None
) -> dict[str, dict[str, Tensor]]:
    """Both shapes of an entry: a released speaker, and one saved by ``add_zero_shot_spk``."""
    generator = torch.Generator().manual_seed(seed)

    def vector() -> Tensor:
        return torch.randn(1, SPEAKER_DIM, generator=generator)

    table = {name: {"embedding": vector()} for name in SFT_SPEAKERS}
    ids = list(_bytes_as_ids("You are a helpful assistant."))
    prompt = _bytes_as_ids("hello there.")
    if values["version"] == 3:
        prompt = [*ids, end_of_prompt or 0, *prompt]
    tokens = torch.randint(
        0, values["speech_vocabulary"], (1, _PROMPT_TOKENS), generator=generator
    ).int()
    mel = values["mel"]
    rate = values["flow"]["input_frame_rate"]
    frames = int(_PROMPT_TOKENS / rate * values["sample_rate"] / mel["hop_size"])
    length = torch.tensor([_PROMPT_TOKENS], dtype=torch.int32)
    speaker = vector()
    table[ZERO_SHOT_SPEAKER] = {
        "prompt_text": torch.tensor([prompt], dtype=torch.int32),
        "prompt_text_len": torch.tensor([len(prompt)], dtype=torch.int32),
        "llm_prompt_speech_token": tokens,
        "llm_prompt_speech_token_len": length,
        "flow_prompt_speech_token": tokens,
        "flow_prompt_speech_token_len": length,
        "prompt_speech_feat": 2 * torch.randn(1, frames, N_MELS, generator=generator) - 5,
        "prompt_speech_feat_len": torch.tensor([frames], dtype=torch.int32),
        "llm_embedding": speaker,
        "flow_embedding": speaker,
    }
    return table


def _bytes_as_ids(text: str) -> list[int]:
    """Ids of single bytes, which every vocabulary made here begins with."""
    return list(text.encode())
