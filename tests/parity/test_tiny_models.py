"""A whole model folder through both real backends: the same tokens, the same audio."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mynah.api import TTS
from mynah.backends.registry import load_backend, load_noise
from mynah.config import ModelConfig
from mynah.errors import BackendUnavailableError, UnsupportedFeatureError
from mynah.hub import verify_model
from mynah.pipeline.model import SpeechModel, build_model
from mynah.pipeline.session import Session
from mynah.pipeline.synthesizer import join, run, synthesize
from mynah.pipeline.voice_store import VoiceStore
from mynah.types import Audio, FloatArray, SynthesisRequest, Voice
from tests.fake_model import reader_for
from tests.tiny_model import BACKENDS, FAMILIES, build_tiny_model, tiny_voice

TEXT = "Hello there. A second one, is it?"
# Measured: 3e-8 (nano) and 2e-7 (cosyvoice2), with samples up to 0.013 and 0.2.
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        build_tiny_model(root / family, family)
    return {family: root / family for family in FAMILIES}


@cache
def load(folder: Path, backend: str, left_chunks: int | None = None) -> SpeechModel:
    config = ModelConfig.load(folder / "config.json")
    networks = load_backend(folder, config, backend=backend, threads=1)
    noise = load_noise(folder)
    return build_model(config, networks, reader_for(config), noise=noise, left_chunks=left_chunks)


def request(model: SpeechModel, seed: int, text: str = TEXT, voice: Voice | None = None) -> Session:
    chosen = voice or tiny_voice(model.config)
    return Session(model, SynthesisRequest(text=text, voice=chosen, seed=seed))


def spoken(session: Session) -> tuple[Audio, int]:
    return join(list(run(session))), session.num_tokens


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", [0, 1])
def test_backends_speak_the_same(folders: dict[str, Path], family: str, seed: int) -> None:
    (onnx, num_onnx), (torch, num_torch) = (
        spoken(request(load(folders[family], backend), seed)) for backend in BACKENDS
    )
    assert num_onnx == num_torch
    np.testing.assert_allclose(onnx.samples, torch.samples, atol=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_interleaved_sessions_equal_separate_ones(
    folders: dict[str, Path], family: str, backend: str
) -> None:
    model = load(folders[family], backend)
    sessions = [request(model, seed) for seed in range(3)]
    parts: list[list[FloatArray]] = [[] for _ in sessions]
    while not all(session.is_over for session in sessions):
        for session, pieces in zip(sessions, parts, strict=True):
            if not session.is_over and (chunk := session.advance()):
                pieces.append(chunk.audio.samples)
    for seed, pieces in enumerate(parts):
        alone = synthesize(request(model, seed)).samples
        np.testing.assert_array_equal(np.concatenate(pieces), alone)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stream_equals_its_tokens_decoded_whole(
    folders: dict[str, Path], family: str, backend: str
) -> None:
    from mynah.pipeline import vocoder
    from mynah.pipeline.flow import FlowPrompt, decode_whole

    model = load(folders[family], backend)
    session = request(model, 4, "Only one utterance.")
    tokens: list[int] = []
    chunks = []
    while not session.is_over:
        if (chunk := session.advance()) is not None:
            chunks.append(chunk)
        if (now := session._current) is not None:
            tokens = now.lm.tokens
    config, network, voice = model.config, model.backend, tiny_voice(model.config)
    prompt = FlowPrompt(voice.speaker_embedding, voice.speech_tokens, voice.mel)
    if config.flow.token_mel_ratio is None:  # windows, which follow from the tokens alone
        mel = model.flow.advance(
            np.array(tokens), model.flow.fork(model.flow.start(prompt)), final=True
        )
    else:
        mel = decode_whole(network.flow, config.flow, prompt, np.array(tokens), model.noise)
    noise = np.random.default_rng([4, 0, 1])
    state = vocoder.new_state(config.vocoder, config.sample_rate, noise)
    whole = vocoder.advance(network.vocoder, config.vocoder, mel, state, final=True)
    assert len(whole) == config.num_frames(len(tokens)) * config.vocoder.samples_per_frame
    np.testing.assert_allclose(join(chunks).samples, whole, atol=1e-4)


def test_the_api_speaks_from_a_model_folder(
    folders: dict[str, Path], tmp_path: Path, speechlike: Audio
) -> None:
    for backend in BACKENDS:
        with TTS.load(folders["nano"], backend=backend, threads=1) as tts:
            assert tts.voices.names() == ["tiny"]
            expected = synthesize(request(load(folders["nano"], backend), 3)).samples
            np.testing.assert_array_equal(tts.synthesize(TEXT, seed=3).samples, expected)
            voice = tts.create_voice(speechlike, name="mine")
            assert voice.model_id == tts.config.model_id
            assert len(voice.speech_tokens) % 5 == 0
            assert len(tts.synthesize(TEXT, voice, seed=1)) > 0


def test_a_model_without_encoders_makes_no_voices(
    folders: dict[str, Path], speechlike: Audio
) -> None:
    from mynah.backends.registry import load_encoders

    model = load(folders["nano"], "onnx")
    store = VoiceStore(folders["nano"] / "voices", None, model.config.model_id)
    with pytest.raises(UnsupportedFeatureError, match="cannot make voices"):
        TTS(model, store, lambda: load_encoders(Path("nowhere"))).create_voice(speechlike)


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_devices_that_are_not_there_are_refused(folders: dict[str, Path], device: str) -> None:
    with pytest.raises(BackendUnavailableError, match=device) as caught:
        TTS.load(folders["nano"], backend="torch", device=device)
    assert caught.value.hint


@pytest.mark.parametrize("variant", ["float16", "int8"])
def test_smaller_files_speak_alike(tmp_path: Path, variant: str) -> None:
    errors = build_tiny_model(tmp_path / "small", variants={"lm": variant, "flow": variant})
    limit = 0.01 if variant == "float16" else 0.3
    assert 0 < max(errors["lm.onnx"], errors["flow_velocity.onnx"]) < limit
    assert errors["vocoder_decode.onnx"] < 1e-5
    folder = verify_model(tmp_path / "small")
    assert len(synthesize(request(load(folder.path, "onnx"), 0))) > 0
