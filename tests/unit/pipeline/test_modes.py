"""What each mode takes of a voice, for each kind of model: a table, as the released models do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mynah.backends.fake import fake_config, fake_voice
from mynah.config import InstructConfig, ModelConfig
from mynah.errors import UnsupportedFeatureError
from mynah.pipeline.model import Manner, SpeechModel, choose_manner, lm_prompt, prepare_voice
from mynah.pipeline.prompt import build_segments
from mynah.pipeline.session import Session
from mynah.pipeline.synthesizer import synthesize
from mynah.types import MODES, SynthesisRequest, Voice
from tests.fake_model import END_OF_PROMPT, SHORT, breaking, fake_model, reader_for

TEXT_IDS = np.array([1, 2])
V1 = InstructConfig(speaker_in_lm=False, prompt_in_flow=False)


def config(kind: str) -> ModelConfig:
    """Of the fake backend, shaped like a generation; the fake reader has no special tokens."""
    plain = fake_config(pointer=False)
    if kind == "v1":
        lm = plain.lm.model_copy(update={"speaker_dim": plain.flow.speaker_dim})
        return plain.model_copy(update={"lm": lm, "instruct": V1, "text_frontend": "qwen2-bpe"})
    if kind == "v2":
        instruct = InstructConfig(styles="cosyvoice2")
        return plain.model_copy(update={"instruct": instruct, "text_frontend": "qwen2-bpe"})
    return fake_config() if kind == "nano" else plain


def model(kind: str, **options: Any) -> SpeechModel:
    return fake_model(config(kind), **options)


def sft_voice(voice: Voice) -> Voice:
    """The speaker vector alone, like those of a released speaker file."""
    empty = np.zeros((0, voice.mel.shape[1]), np.float32)
    return replace(voice, transcript="", speech_tokens=np.zeros(0, np.int64), mel=empty)


def request(loaded: SpeechModel, **values: Any) -> SynthesisRequest:
    voice = values.pop("voice", None) or fake_voice(loaded.config)
    return SynthesisRequest(text=SHORT, voice=voice, **values)


def manner(loaded: SpeechModel, **values: Any) -> Manner:
    return choose_manner(loaded, request(loaded, **values))


def layout(loaded: SpeechModel, **values: Any) -> list[str]:
    """Kinds and lengths of what the language model reads."""
    asked = request(loaded, **values)
    prompt = lm_prompt(loaded, asked.voice, choose_manner(loaded, asked), TEXT_IDS)
    segments = build_segments(prompt, loaded.config.lm)
    return [f"{segment.kind}{len(segment)}" for segment in segments]


WORDS = len("a few words")
TOLD = len("sadly") + 1


@pytest.mark.parametrize(
    ("kind", "values", "expected", "reads_recording"),
    [
        ("v1", {"mode": "sft"}, "marker1 speaker1 text2 marker1", False),
        (
            "v1",
            {"mode": "zero_shot"},
            f"marker1 speaker1 text{WORDS} text2 marker1 speech18",
            True,
        ),
        ("v1", {"mode": "cross_lingual"}, "marker1 speaker1 text2 marker1", True),
        ("v1", {"instruction": "sadly"}, f"marker1 text{TOLD} text2 marker1", False),
        ("v2", {"mode": "sft"}, "marker1 text2 marker1", False),
        ("v2", {"mode": "zero_shot"}, f"marker1 text{WORDS} text2 marker1 speech18", True),
        ("v2", {"mode": "cross_lingual"}, "marker1 text2 marker1", True),
        ("v2", {"instruction": "sadly"}, f"marker1 text{TOLD} text2 marker1", True),
        ("nano", {"mode": "sft"}, "marker1 speaker1 text2 marker1", False),
        ("nano", {"mode": "cross_lingual"}, "marker1 speaker1 text2 marker1", True),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_the_layout_of_every_mode(
    kind: str, values: dict[str, Any], expected: str, reads_recording: bool
) -> None:
    loaded = model(kind)
    assert " ".join(layout(loaded, **values)) == expected
    assert manner(loaded, **values).reads_recording is reads_recording


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_the_mode_follows_from_what_there_is(kind: str) -> None:
    loaded = model(kind)
    voice = fake_voice(loaded.config)
    assert manner(loaded).mode == "zero_shot"
    assert manner(loaded, voice=replace(voice, transcript=" ")).mode == "cross_lingual"
    assert manner(loaded, voice=sft_voice(voice)).mode == "sft"
    assert manner(loaded, instruction="sadly").mode == "instruct"
    assert manner(loaded, mode="instruct", instruction="sadly").mode == "instruct"


def test_a_model_that_reads_no_recordings_takes_only_their_sound() -> None:
    assert manner(model("nano")).mode == "cross_lingual"


def test_an_instruction_never_speaks_the_saved_transcript() -> None:
    """A saved zero-shot voice kept its words in the prompt, and instruct spoke them."""
    loaded = model("v2")
    told = manner(loaded, instruction="sadly")
    spoken = reader_for(loaded.config).ids("a few words").tolist()
    assert told.prompt.ids.tolist()[-1] == END_OF_PROMPT
    assert told.prompt.num_fixed == TOLD
    assert not set(spoken) & set(told.prompt.ids.tolist()) - set(b"sadly")
    prompt = lm_prompt(loaded, fake_voice(loaded.config), told, TEXT_IDS)
    assert not len(prompt.prompt_speech)


@pytest.mark.parametrize(
    ("kind", "change", "mode", "message", "possible"),
    [
        ("nano", "", "zero_shot", "reads no recordings", "sft, cross_lingual"),
        ("plain", "", "instruct", "no instruction", "sft, zero_shot, cross_lingual"),
        ("v2", "words", "zero_shot", "no transcript", "sft, cross_lingual, instruct"),
        ("v2", "recording", "zero_shot", "no transcript", "sft, instruct"),
        ("v2", "recording", "cross_lingual", "speaker vector", "sft, instruct"),
    ],
)
def test_what_is_impossible_is_refused_with_what_is_possible(
    kind: str, change: str, mode: str, message: str, possible: str
) -> None:
    loaded = model(kind)
    voice = fake_voice(loaded.config)
    voice = {
        "": voice,
        "words": replace(voice, transcript=""),
        "recording": sft_voice(voice),
    }[change]
    told = {"instruction": "sadly"} if mode == "instruct" else {}
    with pytest.raises(UnsupportedFeatureError, match=message) as caught:
        manner(loaded, voice=voice, mode=mode, **told)
    assert caught.value.hint == f"possible here: {possible}"


def test_names_become_the_instruction_of_the_catalogue() -> None:
    from mynah.text.styles import catalogue, resolve_style

    loaded = model("v2")
    name = "cantonese"
    assert name in catalogue("cosyvoice2")["dialect"]
    told = manner(loaded, dialect=name)
    words = resolve_style("cosyvoice2", dialect=name)
    assert told.prompt.ids.tolist() == [*loaded.reader.ids(words), END_OF_PROMPT]
    with pytest.raises(UnsupportedFeatureError, match="klingon"):
        manner(loaded, dialect="klingon")
    with pytest.raises(UnsupportedFeatureError, match="no catalogue"):
        manner(model("v1"), emotion="sad")
    with pytest.raises(UnsupportedFeatureError, match="knows no emotions"):
        manner(model("nano"), emotion="sad")


@pytest.mark.parametrize("kind", ["v1", "v2", "nano"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("has_recording", [True, False], ids=["clip", "sft"])
def test_every_combination_speaks_or_says_why_not(
    kind: str, mode: Any, has_recording: bool
) -> None:
    loaded = model(kind)
    voice = fake_voice(loaded.config)
    voice = voice if has_recording else sft_voice(voice)
    told = {"instruction": "sadly"} if mode == "instruct" else {}
    asked = request(loaded, voice=voice, mode=mode, **told)
    impossible = mode in ("zero_shot", "cross_lingual") and not has_recording
    if impossible or (kind == "nano" and mode in ("zero_shot", "instruct")):
        with pytest.raises(UnsupportedFeatureError, match="possible here: sft"):
            Session(loaded, asked)
        return
    session = Session(loaded, asked)
    assert len(synthesize(session)) > 0
    assert session.manner.mode == mode


def test_the_flow_gets_the_recording_only_where_the_mode_uses_it() -> None:
    lengths: list[int] = []

    def watch(original: Any, tokens: Any, lookahead: Any, state: Any) -> Any:
        lengths.append(len(tokens))
        return original(tokens, lookahead, state)

    loaded = model("v1", change=breaking("flow", "encode", watch))
    voice = fake_voice(loaded.config)
    assert prepare_voice(loaded, voice, reads_recording=False).flow.prompt_tokens == 0
    assert not lengths
    assert prepare_voice(loaded, voice).flow.prompt_tokens == 18
    assert sum(lengths) == 15
