"""The official methods give what ``mynah.TTS`` gives for the same request."""

from __future__ import annotations

import gc
import io
import os
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mynah.api import TTS
from mynah.backends.fake import fake_config
from mynah.compat import (
    AutoModel,
    CosyVoice,
    CosyVoice2,
    CosyVoice3,
    MynahCompatWarning,
    requests,
    set_all_random_seed,
)
from mynah.compat.options import Options, read_options
from mynah.compat.requests import pieces
from mynah.compat.tensors import SpeechArray
from mynah.config import InstructConfig, ModelConfig, PromptTemplates, SamplingConfig
from mynah.errors import (
    InvalidRequestError,
    MarkupError,
    ModelNotFoundError,
    OfflineError,
    OverloadedError,
    PromptAudioError,
    UnknownVoiceError,
    UnsupportedFeatureError,
)
from mynah.types import Audio, AudioChunk
from tests.fake_model import TEXT, fake_model, fake_tts, limited, stream_threads

WORDS = "希望你以后能够做的比我还好呦。"
HEAD = "You are a helpful assistant.<|endofprompt|>"
TEMPLATES = PromptTemplates(
    transcript=HEAD + "{text}",
    no_transcript=HEAD,
    instruction="You are a helpful assistant. {text}<|endofprompt|>",
)


def prompted(family: str = "cosyvoice3") -> ModelConfig:
    """A model with prompts and instructions; each character of a text is an id."""
    changes = {
        "sampling": SamplingConfig(min_token_text_ratio=1.0, max_token_text_ratio=60.0),
        "family": family,
        "instruct": InstructConfig(),
        "text_frontend": "qwen2-bpe",
        "templates": TEMPLATES if family == "cosyvoice3" else PromptTemplates(),
    }
    return fake_config(pointer=False).model_copy(update=changes)


def adopt(kind: type[CosyVoice], tts: TTS, options: Options | None = None) -> CosyVoice:
    model = kind.__new__(kind)
    model._adopt("folder", tts, options or Options())
    return model


@pytest.fixture
def tts(tmp_path: Path) -> Iterator[TTS]:
    with fake_tts(tmp_path, fake_model(prompted())) as loaded:
        yield loaded
    assert not stream_threads()


@pytest.fixture
def cosyvoice(tts: TTS) -> CosyVoice:
    return adopt(CosyVoice3, tts)


@pytest.fixture
def clip(tmp_path: Path, speechlike: Audio) -> str:
    return os.fspath(speechlike.save(tmp_path / "prompt.wav"))


def samples(outputs: Iterator[Any]) -> Any:
    """All of a result, checked to be what scripts expect."""
    parts = []
    for output in outputs:
        assert list(output) == ["tts_speech"]
        speech = output["tts_speech"]
        assert isinstance(speech, torch.Tensor)
        assert speech.dtype == torch.float32
        assert speech.shape[0] == 1
        assert speech.shape[1] > 0
        parts.append(speech.numpy()[0])
    return np.concatenate(parts)


def test_sft_uses_the_speaker_vector_alone(tts: TTS, cosyvoice: CosyVoice) -> None:
    wanted = tts.synthesize(TEXT, "other", mode="sft", seed=1).samples
    for stream in (False, True):
        made = samples(cosyvoice.inference_sft(TEXT, "other", stream, seed=1))
        np.testing.assert_array_equal(made, wanted)


def test_zero_shot_goes_on_with_the_recording(tts: TTS, cosyvoice: CosyVoice, clip: str) -> None:
    voice = tts.create_voice(clip, WORDS)
    wanted = tts.synthesize(TEXT, voice, mode="zero_shot", seed=1).samples
    for words in (WORDS, HEAD + WORDS):
        made = samples(cosyvoice.inference_zero_shot(TEXT, words, clip, seed=1))
        np.testing.assert_array_equal(made, wanted)


def test_cross_lingual_takes_the_template_off(tts: TTS, cosyvoice: CosyVoice, clip: str) -> None:
    voice = tts.create_voice(clip)
    wanted = tts.synthesize(TEXT, voice, mode="cross_lingual", seed=1).samples
    for text in (TEXT, HEAD + TEXT, "<|en|>" + TEXT):
        made = samples(cosyvoice.inference_cross_lingual(text, clip, seed=1))
        np.testing.assert_array_equal(made, wanted)


def test_instructions_with_a_recording_or_a_speaker(
    tts: TTS, cosyvoice: CosyVoice, clip: str
) -> None:
    official = "You are a helpful assistant. 请用广东话表达。<|endofprompt|>"
    voice = tts.create_voice(clip)
    wanted = tts.synthesize(TEXT, voice, instruction="请用广东话表达。", seed=1).samples
    made = samples(cosyvoice.inference_instruct2(TEXT, official, clip, seed=1))
    np.testing.assert_array_equal(made, wanted)
    wanted = tts.synthesize(TEXT, "fake", instruction="请用广东话表达。", seed=1).samples
    for outputs in (
        cosyvoice.inference_instruct(TEXT, "fake", official, seed=1),
        cosyvoice.inference_instruct2(TEXT, official, "", "fake", seed=1),
    ):
        np.testing.assert_array_equal(samples(outputs), wanted)


def test_conversion(tts: TTS, cosyvoice: CosyVoice, clip: str) -> None:
    voice = tts.create_voice(clip)
    wanted = tts.convert(clip, voice, seed=1).samples
    for stream in (False, True):
        made = samples(cosyvoice.inference_vc(clip, clip, stream, seed=1))
        np.testing.assert_array_equal(made, wanted)


def test_texts_may_be_generators(tts: TTS, cosyvoice: CosyVoice, clip: str) -> None:
    def parts() -> Iterator[str]:
        yield HEAD[:20]
        yield HEAD[20:] + TEXT[:10]
        yield TEXT[10:]

    voice = tts.create_voice(clip)
    wanted = np.concatenate(
        [c.audio.samples for c in tts.stream(iter([TEXT]), voice, mode="cross_lingual", seed=1)]
    )
    for stream in (False, True):
        made = samples(cosyvoice.inference_cross_lingual(parts(), clip, stream=stream, seed=1))
        np.testing.assert_array_equal(made, wanted)


@pytest.mark.parametrize("form", ["path", "bytes", "file", "tensor", "array", "older name"])
def test_prompts_in_every_form(
    cosyvoice: CosyVoice, clip: str, speechlike: Audio, form: str
) -> None:
    narrow = np.random.default_rng(0).standard_normal(48000).astype(np.float32) * 0.05
    narrow *= np.abs(np.sin(np.arange(48000) / 4000)) ** 3
    forms: dict[str, Callable[[], dict[str, Any]]] = {
        "path": lambda: {"prompt_wav": Path(clip)},
        "bytes": lambda: {"prompt_wav": Path(clip).read_bytes()},
        "file": lambda: {"prompt_wav": io.BytesIO(Path(clip).read_bytes())},
        "tensor": lambda: {"prompt_wav": torch.from_numpy(narrow)[None]},
        "array": lambda: {"prompt_wav": narrow},
        "older name": lambda: {"prompt_speech_16k": torch.from_numpy(narrow)[None]},
    }
    arguments = forms[form]()
    made = samples(cosyvoice.inference_zero_shot("Hi.", WORDS, **arguments, seed=1))
    reference = narrow if "narrow" in forms[form].__code__.co_freevars else clip
    expected = samples(cosyvoice.inference_zero_shot("Hi.", WORDS, reference, seed=1))
    np.testing.assert_array_equal(made, expected)


def test_one_item_for_each_utterance_or_for_each_chunk(cosyvoice: CosyVoice) -> None:
    whole = [o["tts_speech"] for o in cosyvoice.inference_sft(TEXT, "fake", seed=1)]
    chunks = [o["tts_speech"] for o in cosyvoice.inference_sft(TEXT, "fake", True, seed=1)]
    assert len(whole) == 3, "TEXT has three sentences"
    assert len(chunks) > len(whole)


def test_chunks_are_handed_out_at_once() -> None:
    """Not one late: the listener of a stream waits for the first sound."""
    taken: list[int] = []

    def chunks() -> Iterator[AudioChunk]:
        for index in range(3):
            taken.append(index)
            yield AudioChunk(Audio(np.ones(9, np.float32), 24000), index, 0.0, utterance=index // 2)

    assert len(next(pieces(chunks(), stream=True))) == 9
    assert taken == [0]
    taken.clear()
    assert [len(samples) for samples in pieces(chunks(), stream=False)] == [18, 9]


def test_without_torch_scripts_get_arrays(tts: TTS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "load_torch", lambda: None)
    outputs = adopt(CosyVoice3, tts).inference_sft("Hi.", "fake", seed=1)
    (speech,) = (output["tts_speech"] for output in outputs)
    assert isinstance(speech, SpeechArray)
    wanted = tts.synthesize("Hi.", "fake", mode="sft", seed=1).samples
    np.testing.assert_array_equal(speech.numpy().flatten(), wanted)


def test_speed_works_streamed_too(tts: TTS, cosyvoice: CosyVoice) -> None:
    wanted = tts.synthesize(TEXT, "fake", mode="sft", seed=1, speed=1.5).samples
    made = samples(cosyvoice.inference_sft(TEXT, "fake", stream=True, speed=1.5, seed=1))
    np.testing.assert_array_equal(made, wanted)


def test_speakers_live_until_they_are_saved(
    tmp_path: Path, cosyvoice: CosyVoice, clip: str
) -> None:
    assert cosyvoice.list_available_spks() == ["fake", "other"]
    assert cosyvoice.add_zero_shot_spk(HEAD + WORDS, clip, "my spk/1") is True
    assert cosyvoice.list_available_spks() == ["fake", "other", "my spk/1"]
    made = samples(cosyvoice.inference_zero_shot(TEXT, "", "", "my spk/1", seed=1))
    direct = samples(cosyvoice.inference_zero_shot(TEXT, WORDS, clip, seed=1))
    np.testing.assert_array_equal(made, direct)
    later = adopt(CosyVoice3, fake_tts(tmp_path, fake_model(prompted())))
    with pytest.raises(UnknownVoiceError, match=r"no speaker 'my spk/1' .*fake, other"):
        later.inference_zero_shot(TEXT, "", "", "my spk/1")
    cosyvoice.save_spkinfo()
    again = samples(later.inference_zero_shot(TEXT, "", "", "my spk/1", seed=1))
    np.testing.assert_array_equal(again, made)
    assert later.list_available_spks() == ["fake", "other", "my_spk_1"]
    assert later.tts.voices.load("my_spk_1").transcript == WORDS


@pytest.mark.parametrize("name", ["", "...", "fake"])
def test_ids_that_cannot_be_used(cosyvoice: CosyVoice, clip: str, name: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"no id of a speaker|comes with the model"):
        cosyvoice.add_zero_shot_spk(WORDS, clip, name)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda c: c.inference_sft(TEXT, "nobody"), UnknownVoiceError, "known speakers: fake"),
        (lambda c: c.inference_zero_shot(TEXT, "", "x.wav"), PromptAudioError, "no file x.wav"),
        (lambda c: c.inference_zero_shot(TEXT, WORDS, ""), InvalidRequestError, "is missing"),
        (lambda c: c.inference_vc("", ""), InvalidRequestError, "source_wav is missing"),
        (lambda c: c.inference_sft(TEXT, "fake", speed=9), InvalidRequestError, "speed 9"),
        (lambda c: c.inference_sft(TEXT, "fake", sed=1), InvalidRequestError, "argument 'sed'"),
        (lambda c: c.inference_instruct(TEXT, "fake", HEAD), InvalidRequestError, "holds no"),
    ],
    ids=["speaker", "file", "prompt", "source", "speed", "keyword", "instruction"],
)
def test_wrong_arguments_are_refused_by_the_call_itself(
    cosyvoice: CosyVoice, call: Callable[[CosyVoice], Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        call(cosyvoice)


def test_zero_shot_without_words_is_refused(cosyvoice: CosyVoice, clip: str) -> None:
    with pytest.raises(InvalidRequestError, match="prompt_text holds no words"):
        cosyvoice.inference_zero_shot(TEXT, HEAD, clip)


def test_what_the_engine_refuses_is_raised_by_the_generator(tts: TTS, tmp_path: Path) -> None:
    plain = adopt(CosyVoice2, fake_tts(tmp_path / "nano"))
    with pytest.raises(MarkupError, match="control marker"):
        next(plain.inference_sft(HEAD + TEXT, "fake"))
    with pytest.raises(UnsupportedFeatureError):
        next(plain.inference_instruct(TEXT, "fake", "Speak slowly."))


def test_a_model_that_reads_no_recordings_speaks_all_the_same(tmp_path: Path, clip: str) -> None:
    plain = adopt(CosyVoice2, fake_tts(tmp_path / "nano"))
    assert len(samples(plain.inference_zero_shot("Good day.", WORDS, clip, seed=1)))


def test_speech_that_does_not_end_is_kept_with_a_warning(tmp_path: Path) -> None:
    endless = adopt(CosyVoice2, fake_tts(tmp_path / "x", fake_model(limited(fake_config()))))
    with pytest.warns(MynahCompatWarning, match="did not end within the length limit"):
        assert len(samples(endless.inference_sft(TEXT, "fake", seed=1)))


def test_a_generator_that_is_left_frees_everything(cosyvoice: CosyVoice) -> None:
    outputs = cosyvoice.inference_sft(TEXT * 20, "fake", stream=True)
    next(outputs)
    (thread,) = stream_threads()
    watch = weakref.ref(outputs)
    del outputs
    gc.collect()
    assert watch() is None
    thread.join(20)
    assert not stream_threads()


def test_no_more_than_max_concurrent_speak(tts: TTS) -> None:
    limited_voice = adopt(CosyVoice3, tts, read_options({"max_concurrent": 1}))
    first = limited_voice.inference_sft(TEXT * 9, "fake", stream=True)
    next(first)
    with pytest.raises(OverloadedError, match=r"max_concurrent allows no more"):
        next(limited_voice.inference_sft(TEXT, "fake"))
    first.close()  # type: ignore[attr-defined]  # it is a generator, as officially
    assert len(samples(limited_voice.inference_sft("Hi.", "fake")))


def test_threads_share_one_object(cosyvoice: CosyVoice) -> None:
    def speak(seed: int) -> Any:
        return samples(cosyvoice.inference_sft(TEXT, "fake", stream=bool(seed % 2), seed=seed // 2))

    serial = [speak(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(serial, pool.map(speak, range(8)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_global_seeds_make_scripts_repeatable(cosyvoice: CosyVoice) -> None:
    made = []
    for _ in range(2):
        set_all_random_seed(7)
        made.append([samples(cosyvoice.inference_sft(TEXT, "fake")) for _ in range(2)])
    np.testing.assert_array_equal(made[0][0], made[1][0])
    np.testing.assert_array_equal(made[0][1], made[1][1])
    assert made[0][0].shape != made[0][1].shape or (made[0][0] != made[0][1]).any()


def test_each_class_loads_its_own_generation(tmp_path: Path) -> None:
    for family, kind in (
        ("cosyvoice1", CosyVoice),
        ("cosyvoice2", CosyVoice2),
        ("cosyvoice3", CosyVoice3),
    ):
        model = fake_model(prompted(family))
        for other in (CosyVoice, CosyVoice2, CosyVoice3):
            if other is kind:
                assert adopt(other, fake_tts(tmp_path, model)).sample_rate == 24000
                continue
            with pytest.raises(InvalidRequestError, match=f"use AutoModel, or {kind.__name__}"):
                adopt(other, fake_tts(tmp_path, model))
    assert issubclass(CosyVoice3, CosyVoice2)


@pytest.mark.parametrize("model_dir", ["pretrained_models/CosyVoice2-0.5B", "iic/CosyVoice2-0.5B"])
def test_models_that_are_not_there_name_the_command(
    model_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelNotFoundError, match=r"`mynah pull cosyvoice2-0\.5b`"):
        AutoModel(model_dir=model_dir, download=False)
    monkeypatch.setenv("MYNAH_OFFLINE", "1")
    with pytest.raises(OfflineError, match=r"`mynah pull cosyvoice2-0\.5b`"):
        AutoModel(model_dir=model_dir)
    with pytest.raises(ModelNotFoundError, match="no model"):
        CosyVoice2(os.fspath(tmp_path / "nothing"))


def test_chunk_size_of_another_model(tts: TTS) -> None:
    adopt(CosyVoice3, tts, read_options({"chunk_size": 5}))
    with pytest.raises(InvalidRequestError, match="this model's chunks have 5 tokens"):
        adopt(CosyVoice3, tts, read_options({"chunk_size": 25}))


def test_inner_parts_say_where_they_went(cosyvoice: CosyVoice) -> None:
    with pytest.raises(AttributeError, match="list_available_spks"):
        _ = cosyvoice.frontend
    with pytest.raises(AttributeError, match="attribute tts"):
        _ = cosyvoice.model
    assert not hasattr(cosyvoice, "nothing")
    assert replace(Options()) == Options()
