from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from mynah.backends.base import FloatArray, TokenArray
from mynah.config import (
    FlowConfig,
    LMConfig,
    MelConfig,
    ModelConfig,
    RegulatedEncoderConfig,
    TokenEncoderConfig,
    VelocityConfig,
    VocoderConfig,
)
from mynah.errors import (
    GenerationError,
    InvalidRequestError,
    OutputError,
    PromptAudioError,
    UnknownVoiceError,
    UnsupportedFeatureError,
)
from mynah.pipeline.voices import VoiceEncoder, load_voice, read_voice_info, save_voice
from mynah.types import Audio, Voice
from tests.sounds import make_speechlike
from tests.unit.test_types import make_voice


class ToyTokenizer:
    """Token = loudest bin, every fourth frame."""

    def tokens(self, log_mel: FloatArray) -> TokenArray:
        loudest = log_mel[: len(log_mel) // 4 * 4 : 4].argmax(axis=1)
        return np.asarray(loudest, dtype=np.int64)


class ToySpeakerEncoder:
    def embed(self, fbank: FloatArray) -> FloatArray:
        return np.resize(fbank.std(axis=0), 192).astype(np.float32)


def make_config(*, reads_prompt_speech: bool = True) -> ModelConfig:
    return ModelConfig(
        model_id="toy-1",
        family="nano",
        languages=("en",),
        text_frontend="phonemes",
        lm=LMConfig(
            text_vocab_size=10,
            hidden_size=8,
            num_layers=1,
            num_heads=1,
            num_kv_heads=1,
            head_dim=8,
            intermediate_size=8,
            speech_vocab_size=729,
            reads_prompt_speech=reads_prompt_speech,
        ),
        flow=FlowConfig(
            speech_vocab_size=729,
            encoder=TokenEncoderConfig(dim=8, num_heads=1, feed_forward=8),
            velocity=VelocityConfig(),
        ),
        vocoder=VocoderConfig(),
    )


def make_encoder(**changes: Any) -> VoiceEncoder:
    encoder = VoiceEncoder(ToyTokenizer(), ToySpeakerEncoder(), make_config())
    return replace(encoder, **changes)


@pytest.mark.parametrize("rate", [16000, 22050, 24000, 44100, 48000])
def test_a_recording_becomes_an_aligned_voice(rate: int) -> None:
    voice = make_encoder().encode(make_speechlike(3.4, rate), name="anna", language="en")
    assert len(voice.speech_tokens) == 75
    assert voice.mel.shape == (150, 80)
    assert voice.speaker_embedding.shape == (192,)
    assert (voice.model_id, voice.transcript, voice.version) == ("toy-1", "", 1)
    assert len(voice.created) == 10


def test_with_a_transcript_no_word_is_cut() -> None:
    audio = make_speechlike(3.4, 24000)
    voice = make_encoder().encode(audio, name="anna", transcript=" some words ")
    assert len(voice.speech_tokens) == 100
    assert voice.transcript == "some words"
    assert voice.mel[:150].mean() > voice.mel[175:].mean() + 1  # the rest is quiet
    deaf = make_encoder(config=make_config(reads_prompt_speech=False))
    assert len(deaf.encode(audio, name="anna", transcript="some words").speech_tokens) == 75


def test_the_recordings_own_quiet_is_used_first() -> None:
    samples = make_speechlike(3.4, 24000).samples
    padded = Audio(np.concatenate([samples[:0], samples, np.zeros(48000, np.float32)]), 24000)
    voice = make_encoder().encode(padded, name="anna", transcript="words")
    assert len(voice.speech_tokens) == 100
    assert voice.mel[-5:].max() < -10  # digital silence of the recording


def test_silence_at_the_ends_is_cut() -> None:
    pad = np.zeros(36000, np.float32)
    audio = make_speechlike(3.0, 24000)
    padded = Audio(np.concatenate([pad, audio.samples, pad]), 24000)
    assert len(make_encoder().encode(padded, name="a").speech_tokens) in (50, 75)


def test_the_shortest_recording_works() -> None:
    voice = make_encoder().encode(make_speechlike(1.1, 24000), name="a")
    assert 20 <= len(voice.speech_tokens) <= 25
    assert len(voice.mel) == 2 * len(voice.speech_tokens)


def test_the_same_recording_gives_the_same_voice() -> None:
    first, second = (
        make_encoder().encode(make_speechlike(2.2, 44100), name="a", transcript="b")
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.mel, second.mel)


def test_bad_recordings_and_names_are_refused() -> None:
    with pytest.raises(PromptAudioError, match=r"clip\.wav is 0\.30 s long"):
        make_encoder().encode(make_speechlike(0.3, 24000), name="a", source="clip.wav")
    with pytest.raises(InvalidRequestError, match="cannot be the name"):
        make_encoder().encode(make_speechlike(2.0, 24000), name="../a")


def test_encoders_that_misbehave_are_found() -> None:
    class Wild(ToyTokenizer):
        def tokens(self, log_mel: FloatArray) -> TokenArray:
            return super().tokens(log_mel) + 1000

    class Mute(ToyTokenizer):
        def tokens(self, log_mel: FloatArray) -> TokenArray:
            return super().tokens(log_mel)[:0]

    class Broken(ToySpeakerEncoder):
        def embed(self, fbank: FloatArray) -> FloatArray:
            return super().embed(fbank) * np.float32(np.nan)

    audio = make_speechlike(2.0, 24000)
    with pytest.raises(GenerationError, match="the model knows 0 to 728"):
        make_encoder(tokenizer=Wild()).encode(audio, name="a")
    with pytest.raises(PromptAudioError, match="no speech tokens"):
        make_encoder(tokenizer=Mute()).encode(audio, name="a")
    with pytest.raises(GenerationError, match="192 NaN"):
        make_encoder(speaker_encoder=Broken()).encode(audio, name="a")


def v1_config() -> ModelConfig:
    """50 tokens per second, 22.05 kHz mels: a token is no whole number of frames."""
    plain = make_config()
    encoder = RegulatedEncoderConfig(kind="regulated_conformer", dim=8, num_heads=1, feed_forward=8)
    return ModelConfig.model_validate(
        plain.model_dump()
        | {
            "model_id": "toy-v1",
            "token_rate": 50,
            "sample_rate": 22050,
            "mel": MelConfig(sample_rate=22050, n_fft=1024, hop_length=256, win_length=1024),
            "vocoder": VocoderConfig(upsample_rates=(8, 8), upsample_kernel_sizes=(16, 16)),
            "flow": plain.flow.model_copy(update={"encoder": encoder, "token_mel_ratio": None}),
        }
    )


class FastTokenizer(ToyTokenizer):
    """Every second frame, as CosyVoice 1."""

    def tokens(self, log_mel: FloatArray) -> TokenArray:
        return super().tokens(np.repeat(log_mel, 2, axis=0))


@pytest.mark.parametrize("transcript", ["", "some words"])
def test_a_model_of_another_rate_gets_its_own_tokens_and_frames(transcript: str) -> None:
    config = v1_config()
    audio = make_speechlike(3.4, 24000)
    voice = make_encoder(config=config, tokenizer=FastTokenizer()).encode(
        audio, name="anna", transcript=transcript
    )
    count = len(voice.speech_tokens)
    assert abs(count - 3.4 * 50) <= 2, "there is no grid to cut to"
    assert len(voice.mel) == config.num_frames(count) == int(count / 50 * 22050 / 256)


@pytest.mark.parametrize("count", [0, 1, 30, 8960, 14592, 17920])
def test_frames_are_counted_as_the_released_model_does(count: int) -> None:
    assert v1_config().num_frames(count) == int(count / 50 * 22050 / 256)
    assert make_config().num_frames(count) == 2 * count


@pytest.mark.parametrize("rate", [16000, 24000, 44100])
def test_the_recording_stays_with_the_voice(tmp_path: Path, rate: int) -> None:
    audio = make_speechlike(2.2, rate)
    voice = make_encoder().encode(audio, name="anna")
    assert voice.recording is not None
    assert voice.recording.sample_rate == 24000
    assert abs(voice.recording.duration_s - 2.2) < 0.01
    path = save_voice(voice, tmp_path / "anna.safetensors")
    back = load_voice(path)
    assert back.recording is not None
    np.testing.assert_array_equal(back.recording.samples, voice.recording.samples)
    assert read_voice_info(path, builtin=False).has_recording
    if rate == 24000:
        assert np.abs(voice.recording.samples - audio.samples).max() < 1e-4
    plain = make_encoder().encode(audio, name="anna", keep_recording=False)
    assert plain.recording is None
    small = save_voice(plain, tmp_path / "small.safetensors")
    assert small.stat().st_size < path.stat().st_size
    assert path.stat().st_size < small.stat().st_size + 2 * len(voice.recording), "it is packed"


def test_a_voice_is_made_again_for_another_model() -> None:
    audio = make_speechlike(2.2, 24000)
    made = make_encoder().encode(
        audio, name="anna", transcript="some words", language="en", licence="CC0", consent="yes"
    )
    made = replace(made, created="2024-02-29")
    other = make_encoder(config=v1_config(), tokenizer=FastTokenizer())
    remade = other.remake(made)
    assert (remade.model_id, remade.transcript) == ("toy-v1", "some words")
    assert (remade.name, remade.language, remade.licence) == ("anna", "en", "CC0")
    assert (remade.consent, remade.created) == ("yes", "2024-02-29")
    direct = other.encode(audio, name="anna", transcript="some words")
    assert len(direct.speech_tokens) == len(remade.speech_tokens)
    np.testing.assert_allclose(remade.mel, direct.mel, atol=0.5)  # 16 bit
    with pytest.raises(UnsupportedFeatureError, match="cannot speak with toy-v1"):
        other.remake(replace(made, recording=None))


def test_a_damaged_recording_is_a_damaged_file(tmp_path: Path) -> None:
    voice = make_encoder().encode(make_speechlike(2.2, 24000), name="anna")
    path = save_voice(voice, tmp_path / "anna.safetensors")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"fLaC", b"nope"))
    with pytest.raises(InvalidRequestError, match="cannot use the voice file"):
        load_voice(path)


def full_voice() -> Voice:
    return make_voice(
        transcript="Hällo 世界",
        language="de",
        licence="CC0-1.0",
        consent="asked in person",
        created="2025-01-31",
    )


def test_a_voice_survives_the_file(tmp_path: Path) -> None:
    voice = full_voice()
    path = save_voice(voice, tmp_path / "anna.safetensors")
    back = load_voice(path, model_id="nano-1")
    assert repr(back) == repr(voice)
    for key in ("speech_tokens", "mel", "speaker_embedding"):
        np.testing.assert_array_equal(getattr(back, key), getattr(voice, key))
    info = read_voice_info(path, builtin=False, model_id="nano-1")
    assert (info.num_tokens, info.licence, info.problem) == (25, "CC0-1.0", "")


def test_another_models_voice_is_refused(tmp_path: Path) -> None:
    path = save_voice(full_voice(), tmp_path / "anna.safetensors")
    with pytest.raises(UnsupportedFeatureError, match="made with the model nano-1") as caught:
        load_voice(path, model_id="cosyvoice2")
    assert "load the model nano-1" in caught.value.hint
    info = read_voice_info(path, builtin=False, model_id="cosyvoice2")
    assert "made with the model nano-1" in info.problem
    assert info.model_id == "nano-1"


def test_a_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownVoiceError, match=r"no voice file .*b\.safetensors"):
        load_voice(tmp_path / "b.safetensors")
    with pytest.raises(InvalidRequestError, match="cannot use the voice file"):
        load_voice(tmp_path)
    with pytest.raises(OutputError, match="create it first"):
        save_voice(full_voice(), tmp_path / "nowhere" / "a.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 100, 1000, -1])
def test_truncated_files_are_refused(tmp_path: Path, keep: int) -> None:
    path = save_voice(full_voice(), tmp_path / "anna.safetensors")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InvalidRequestError, match="cannot use the voice file") as caught:
        load_voice(path)
    assert caught.value.hint
    assert read_voice_info(path, builtin=False).problem


def _with(tmp_path: Path, drop: str = "", **metadata: str) -> Path:
    voice = full_voice()
    path = tmp_path / "changed.safetensors"
    names = ("speech_tokens", "mel", "speaker_embedding")
    texts = ("name", "model_id", "transcript", "language", "licence", "consent", "created")
    values = {"format": "mynah-voice", "version": "1", **{k: getattr(voice, k) for k in texts}}
    values = {key: value for key, value in {**values, **metadata}.items() if key != drop}
    arrays = {key: getattr(voice, key) for key in names if key != drop}
    path.write_bytes(safetensors.numpy.save(arrays, values))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "it is no voice file"),
        ({"version": "x"}, "version 'x'"),
        ({"version": "2"}, "knows up to 1"),
        ({"drop": "mel"}, "it lacks mel"),
        ({"drop": "consent"}, "it lacks consent"),
        ({"name": "../x"}, "cannot be the name"),
    ],
    ids=["format", "version", "newer", "tensor", "text", "name"],
)
def test_odd_files_are_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        load_voice(_with(tmp_path, **changes))


def test_the_unchanged_file_is_fine(tmp_path: Path) -> None:
    assert load_voice(_with(tmp_path)).name == "anna"
    assert os.listdir(tmp_path) == ["changed.safetensors"]
