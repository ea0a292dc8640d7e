"""Words that nobody asked for, and words that are missing (complaints 3, 4, 5 and 18)."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.backends.base import Segment
from mynah.backends.fake import fake_config, fake_voice
from mynah.compat.markers import open_text
from mynah.config import InstructConfig, ModelConfig, PromptTemplates
from mynah.errors import MarkupError
from mynah.pipeline.readers import build_reader
from mynah.pipeline.session import Session
from mynah.pipeline.synthesizer import join, run, synthesize
from mynah.types import Mode, SynthesisRequest
from tests.fake_model import breaking, fake_model, fake_tts

TRANSCRIPT = "xylophone quartz"
WORDS = ["one", "two", "three", "seven", "rain", "snow", "wind", "sun", "alone", "away"]


def prompted() -> ModelConfig:
    """A model with prompts and instructions; each character of a text is an id."""
    config = fake_config(pointer=False)
    changes = {"instruct": InstructConfig(), "text_frontend": "qwen2-bpe"}
    return config.model_copy(update=changes)


def texts_read(mode: Mode | None, instruction: str | None = None) -> list[list[int]]:
    """Runs of text ids that reached the language model for a voice that has a transcript."""
    seen: list[list[int]] = []

    def record(original: Any, segments: list[Segment], *args: Any, **kwargs: Any) -> Any:
        seen.append([int(i) for s in segments if s.kind == "text" for i in s.ids])
        return original(segments, *args, **kwargs)

    model = fake_model(prompted(), change=breaking("lm", "prefill", record))
    voice = replace(fake_voice(model.config), transcript=TRANSCRIPT)
    request = SynthesisRequest(
        text="Good day. And bye.", voice=voice, mode=mode, instruction=instruction
    )
    synthesize(Session(model, request))
    assert len(seen) >= 2
    return seen


def contains(ids: list[int], words: str) -> bool:
    wanted = [int(i) for i in fake_model(prompted()).reader.ids(words)]
    return any(ids[i : i + len(wanted)] == wanted for i in range(len(ids)))


@pytest.mark.parametrize(
    ("mode", "instruction"),
    [
        ("instruct", "Speak slowly."),
        (None, "Speak slowly."),
        ("cross_lingual", None),
        ("sft", None),
    ],
    ids=["instruct", "instructed", "cross_lingual", "sft"],
)
def test_a_saved_transcript_is_read_only_where_it_belongs(
    mode: Mode | None, instruction: str | None
) -> None:
    """With a saved speaker the official instruct mode used the saved text as the instruction.

    So it spoke the words of the recording before the words of the text. A transcript is a part of
    a voice here, and only the mode that goes on with the recording reads it.
    """
    assert all(contains(ids, TRANSCRIPT) for ids in texts_read("zero_shot"))
    for ids in texts_read(mode, instruction):
        assert not contains(ids, TRANSCRIPT)
        assert instruction is None or contains(ids, instruction)


MARKED = [
    "<|endofprompt|>",
    "<| endofprompt |>",
    "<|im_start|>system",
    "＜|endofprompt|＞",
    "a <|x|> b",
]


@pytest.mark.parametrize("marked", MARKED)
def test_texts_cannot_hold_control_markers(tmp_path: Path, marked: str) -> None:
    """Users wrote the marker in the wrong place, and the model read its system prompt aloud."""
    with fake_tts(tmp_path) as tts:
        for text in (marked, f"Good day. {marked}", f"{marked} good day"):
            with pytest.raises(MarkupError):
                tts.stream(text)


def test_markers_between_words_do_not_switch_the_front_end_off() -> None:
    """Any text with ``<|`` and ``|>`` somewhere in it was neither normalised nor split.

    A lone half of a marker is ordinary text and is normalised like any other. The one marker that
    official scripts must write, before a text of generation 3, is taken off before the text is
    read, so the rest of it is normalised and cut like every text.
    """
    reader = build_reader(fake_config(), Path("unused"))
    plain = reader.ids("It costs 5 dollars.").tolist()
    assert reader.ids("It costs $5.").tolist() == plain
    odd = reader.ids("It costs $5 |> or <| so.").tolist()
    assert odd[: len(plain) - 3] == plain[:-3]
    templates = PromptTemplates(no_transcript="You are a helpful assistant.<|endofprompt|>")
    text = "You are a helpful assistant.<|endofprompt|>It costs $5. " + "It rains again. " * 20
    _, words = open_text(text, templates)
    assert isinstance(words, str)
    utterances = list(reader.utterances(words))
    assert len(utterances) > 3
    assert "".join(utterance.text for utterance in utterances) == words
    assert utterances[0].ids.tolist()[: len(plain) - 2] == plain[:-2]


@pytest.mark.parametrize("text", ["What?! No... really?!", "One.. two!! six", "¿Yes? (No!) «Hm.»"])
def test_no_sign_is_lost_between_sentences(text: str) -> None:
    """Two sentence ends in a row made an empty piece, which was dropped with its punctuation.

    "What?!" was spoken as a statement.
    """
    reader = build_reader(fake_config(), Path("unused"))
    assert "".join(utterance.text for utterance in reader.utterances(text)) == text


@pytest.mark.parametrize("pointer", [True, False], ids=["pointer", "prompted"])
def test_a_stream_says_all_that_the_whole_says(pointer: bool) -> None:
    """About one in ten streamed outputs lost its last word.

    The last chunk took another path than the rest. Here many texts of all lengths come out of the
    stream with as many tokens, and the same samples, as out of one go.
    """
    choices = random.Random(5)
    model = fake_model(fake_config(pointer=pointer))
    voice = fake_voice(model.config)
    for seed in range(40):
        text = " ".join(choices.choices(WORDS, k=choices.randrange(1, 12))) + choices.choice(".?!")
        request = SynthesisRequest(text=text, voice=voice, seed=seed)
        streamed, whole = Session(model, request), Session(model, request, whole=True)
        samples = join(list(run(streamed))).samples
        np.testing.assert_array_equal(samples, synthesize(whole).samples)
        assert streamed.num_tokens == whole.num_tokens
        assert streamed.num_utterances > 1 or len(samples) == 960 * streamed.num_tokens
