"""Pronunciations of a project, a voice and a request, through the API."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mynah
from mynah.api import TTS
from mynah.api.lexicons import LexiconFinder
from mynah.backends.fake import fake_voice
from mynah.errors import InvalidRequestError, UnknownVoiceError, UnsupportedFeatureError
from mynah.pipeline.synthesizer import join
from mynah.pipeline.voice_store import VoiceStore
from mynah.pipeline.voices import save_voice
from mynah.text.lexicons import UserLexicon
from mynah.types import FloatArray
from tests.fake_model import fake_model, fake_tts

TEXT = "We run nginx here."
NAME = {"nginx": '"engine x"'}
OTHER = {"Nginx": '"a very long name indeed"'}


@pytest.fixture
def tts(tmp_path: Path) -> TTS:
    return fake_tts(tmp_path)


def said(tts: TTS, text: str = TEXT, voice: Any = None, **options: Any) -> FloatArray:
    return tts.synthesize(text, voice, seed=1, **options).samples


def same(one: FloatArray, other: FloatArray) -> bool:
    return len(one) == len(other) and bool(np.array_equal(one, other))


def with_project(tts: TTS, lexicon: Any) -> TTS:
    return TTS(fake_model(), tts.voices, lexicon=lexicon)


def test_a_lexicon_says_what_a_hint_would(tts: TTS, tmp_path: Path) -> None:
    wanted = said(tts, 'We run nginx{"engine x"} here.')
    assert not same(said(tts), wanted)
    path = tmp_path / "names.txt"
    path.write_text('nginx\t"engine x"\n', encoding="utf-8")
    for lexicon in (NAME, UserLexicon(NAME), path, str(path)):
        assert same(said(tts, lexicon=lexicon), wanted)
    assert mynah.UserLexicon is UserLexicon
    streamed = join(list(tts.stream(TEXT, seed=1, lexicon=NAME))).samples
    assert same(streamed, wanted)
    assert same(asyncio.run(tts.asynthesize(TEXT, seed=1, lexicon=NAME)).samples, wanted)
    pieces = tts.synthesize(["We run ngi", "nx here."], seed=1, lexicon=NAME).samples
    assert same(pieces, wanted)


def test_the_request_wins_over_the_voice_and_that_over_the_project(tts: TTS) -> None:
    engine, long = said(tts, lexicon=NAME), said(tts, lexicon=OTHER)
    assert not same(engine, long)
    project = with_project(tts, NAME)
    assert same(said(project), engine)
    assert same(said(project, lexicon=OTHER), long)
    folder = tts.voices.builtin_path
    assert folder is not None
    (folder / "fake.lexicon").write_text('nginx\t"a very long name indeed"\n', encoding="utf-8")
    assert same(said(project, voice="fake"), long)
    assert same(said(project, voice="fake", lexicon=NAME), engine)
    hinted = said(tts, 'We run nginx{"engine x"} here.')
    assert same(said(project, 'We run nginx{"engine x"} here.', voice="fake"), hinted)


def test_a_lexicon_changes_no_other_request(tts: TTS) -> None:
    plain = said(tts)
    said(tts, lexicon=NAME)
    assert same(said(tts), plain)


def test_a_voice_s_lexicon_is_found_however_the_voice_is_given(tts: TTS, tmp_path: Path) -> None:
    wanted = said(tts, voice="other", lexicon=NAME)
    value = fake_voice(tts.config, "other")
    file = save_voice(value, tmp_path / "carried.safetensors")
    (tmp_path / "carried.lexicon").write_text('nginx\t"engine x"\n', encoding="utf-8")
    assert same(said(tts, voice=file), wanted)
    assert not same(said(tts, voice="other"), wanted)
    tts.voices.add_lexicon("other", tmp_path / "carried.lexicon")
    assert same(said(tts, voice="other"), wanted)
    assert same(said(tts, voice=value), wanted)


def test_a_lexicon_goes_where_its_voice_goes(tts: TTS, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text('nginx\t"engine x"\n', encoding="utf-8")
    voice = fake_voice(tts.config, "mine")
    tts.voices.add(voice)
    kept = tts.voices.add_lexicon("mine", names)
    assert tts.voices.lexicon_path("mine") == kept
    exported = tts.voices.export("mine", tmp_path / "carried.safetensors")
    assert exported.with_suffix(".lexicon").read_bytes() == names.read_bytes()
    tts.voices.remove("mine")
    assert tts.voices.lexicon_path("mine") is None
    elsewhere = VoiceStore(tmp_path / "elsewhere", None, "fake")
    elsewhere.import_file(exported, "yours")
    found = elsewhere.lexicon_path("yours")
    assert found is not None
    assert found.read_bytes() == names.read_bytes()


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    finder, path = LexiconFinder(), tmp_path / "names.txt"
    path.write_text('nginx\t"engine x"\n', encoding="utf-8")
    first = finder.find(path)
    assert finder.find(str(path)) is first
    path.write_text('nginx\t"something else"\n', encoding="utf-8")
    assert finder.find(path).entries == {"nginx": '"something else"'}


@pytest.mark.parametrize(
    ("lexicon", "said_of_it"),
    [
        ({"nginx": "T UGH"}, "lexicon entry 'nginx': 'UGH'"),
        ("gone.txt", "cannot read the lexicon gone.txt"),
        (5, "lexicon is int"),
    ],
)
def test_a_wrong_lexicon_is_refused_at_once(tts: TTS, lexicon: Any, said_of_it: str) -> None:
    for speak in (tts.synthesize, tts.stream):
        with pytest.raises(InvalidRequestError, match=said_of_it) as caught:
            speak(TEXT, lexicon=lexicon)
        assert caught.value.hint
    with pytest.raises(InvalidRequestError, match=said_of_it):
        with_project(tts, lexicon)


def test_what_the_model_cannot_be_told_is_an_error_when_it_is_spoken(tts: TTS) -> None:
    words = {"nginx": "\u304d\u3087\u3046"}
    assert len(tts.synthesize("Hello.", lexicon=words))
    with pytest.raises(UnsupportedFeatureError):
        tts.stream(TEXT, lexicon=words)


def test_a_lexicon_is_for_a_voice_that_there_is(tts: TTS, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("no tab here\n", encoding="utf-8")
    with pytest.raises(UnknownVoiceError, match="did you mean other"):
        tts.voices.add_lexicon("otter", names)
    with pytest.raises(InvalidRequestError, match="line 1"):
        tts.voices.add_lexicon("other", names)
    assert tts.voices.lexicon_path("other") is None
