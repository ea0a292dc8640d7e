from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mynah.errors import InvalidRequestError, ModelFormatError, UnsupportedFeatureError
from mynah.pipeline.prompt import LMPrompt, Mode, build_segments
from tests.lm_models import SPEAKER_DIM, tiny_config

TEXT, TRANSCRIPT, SPEECH = np.array([1, 2]), np.array([3]), np.array([4, 5, 6])
SPEAKER = np.ones(SPEAKER_DIM, dtype=np.float32)


def _layout(mode: Mode, kind: str, **config: Any) -> list[tuple[str, list[int]]]:
    prompt = LMPrompt(mode, TEXT, TRANSCRIPT, SPEECH, SPEAKER)
    segments = build_segments(prompt, tiny_config(kind).model_copy(update=config))
    return [(segment.kind, segment.ids.tolist()) for segment in segments]


def test_zero_shot_ends_with_the_prompt_speech() -> None:
    assert _layout("zero_shot", "plain") == [
        ("marker", [0]),
        ("text", [3]),
        ("text", [1, 2]),
        ("marker", [1]),
        ("speech", [4, 5, 6]),
    ]


def test_cross_lingual_reads_only_the_text() -> None:
    assert _layout("cross_lingual", "plain") == [("marker", [0]), ("text", [1, 2]), ("marker", [1])]


def test_instructions_come_before_the_text() -> None:
    assert _layout("instruct", "plain") == [
        ("marker", [0]),
        ("text", [3]),
        ("text", [1, 2]),
        ("marker", [1]),
    ]


def test_the_speaker_follows_sos() -> None:
    assert _layout("cross_lingual", "speaker")[:2] == [("marker", [0]), ("speaker", [])]


def test_a_model_without_prompt_speech_reads_no_transcript_either() -> None:
    layout = _layout("zero_shot", "plain", reads_prompt_speech=False)
    assert layout == [("marker", [0]), ("text", [1, 2]), ("marker", [1])]


def test_a_pointer_model_takes_no_instruction() -> None:
    with pytest.raises(UnsupportedFeatureError, match="pointer"):
        _layout("instruct", "pointer")


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        (LMPrompt("cross_lingual", TEXT[:0]), InvalidRequestError, "nothing to say"),
        (LMPrompt("cross_lingual", TEXT), InvalidRequestError, "speaker vector"),
        (
            LMPrompt("cross_lingual", TEXT, speaker=SPEAKER[1:]),
            InvalidRequestError,
            "speaker vector",
        ),
        (LMPrompt("cross_lingual", TEXT + 40, speaker=SPEAKER), ModelFormatError, "text ids"),
        (
            LMPrompt("zero_shot", TEXT, TRANSCRIPT, SPEECH + 50, SPEAKER),
            InvalidRequestError,
            "speech tokens",
        ),
        (
            LMPrompt("zero_shot", TEXT, TRANSCRIPT, SPEECH - 9, SPEAKER),
            InvalidRequestError,
            "speech tokens",
        ),
    ],
    ids=["empty", "no speaker", "speaker size", "text id", "speech id", "negative id"],
)
def test_bad_prompts(prompt: LMPrompt, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build_segments(prompt, tiny_config("speaker"))
