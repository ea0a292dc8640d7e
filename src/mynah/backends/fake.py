"""A backend without weights: tiny deterministic NumPy networks behind the real protocols.

For tests and documentation. Speech tokens depend on the text and on what was said before, mel
frames on the tokens and on the noise, and the samples are an audible tone; every state is real, so
that a pipeline which loses or mixes states is caught. The networks know nothing of voices but
their prompt tokens and speaker vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mynah.backends.base import (
    Backend,
    CropArray,
    Cursor,
    FloatArray,
    Segment,
    SpeakerEncoder,
    SpeechTokenizer,
    StoredArray,
    TokenArray,
)
from mynah.config import (
    FlowConfig,
    LMConfig,
    ModelConfig,
    PointerConfig,
    SamplingConfig,
    TokenEncoderConfig,
    VelocityConfig,
    VocoderConfig,
)
from mynah.errors import BackendError
from mynah.types import Voice

_VOCABULARY = 64
_SPEAKER_DIM = 16
_SPREAD = 2654435761  # Knuth's multiplicative hash
_KINDS = {"text": 1, "speech": 2, "marker": 3, "speaker": 5}


def fake_config(*, pointer: bool = True) -> ModelConfig:
    """Configuration of a model that the fake backend can run.

    With ``pointer`` it is of the embedded model's kind, else of CosyVoice2's.
    """
    return ModelConfig(
        model_id="fake",
        family="nano" if pointer else "cosyvoice2",
        languages=("en", "zh"),
        text_frontend="phonemes",
        lm=LMConfig(
            text_vocab_size=1024,
            hidden_size=8,
            num_layers=1,
            num_heads=1,
            num_kv_heads=1,
            head_dim=8,
            intermediate_size=8,
            speech_vocab_size=_VOCABULARY,
            speaker_dim=_SPEAKER_DIM if pointer else None,
            reads_prompt_speech=not pointer,
            pointer=PointerConfig(forced_advance=4, forced_advance_pause=6) if pointer else None,
        ),
        flow=FlowConfig(
            speech_vocab_size=_VOCABULARY,
            speaker_dim=_SPEAKER_DIM,
            encoder=TokenEncoderConfig(dim=8, num_heads=1, feed_forward=8, chunk_tokens=5),
            velocity=VelocityConfig(channels=8, num_heads=1, head_dim=8),
            num_steps=2,
            mel_mean=-5.0,
            mel_std=1.0,
            noise="numpy",
        ),
        vocoder=VocoderConfig(
            base_channels=8,
            num_harmonics=1,
            resblock_kernel_sizes=(3,),
            resblock_dilations=((1,),),
            source_resblock_kernel_sizes=(3, 3, 3),
            source_resblock_dilations=((1,), (1,), (1,)),
        ),
        sampling=SamplingConfig(min_token_text_ratio=1.0, max_token_text_ratio=8.0),
        default_voice=None,
    )


def fake_voice(config: ModelConfig, name: str = "fake", *, num_tokens: int = 18) -> Voice:
    """A voice for a fake model; another name is another voice."""
    rng = np.random.default_rng(list(name.encode()))
    mel = rng.standard_normal((2 * num_tokens, config.flow.n_mels)).astype(np.float32) - 5
    return Voice(
        name=name,
        model_id=config.model_id,
        transcript="a few words",
        speech_tokens=rng.integers(0, config.lm.speech_vocab_size, num_tokens),
        mel=mel,
        speaker_embedding=rng.standard_normal(config.flow.speaker_dim).astype(np.float32),
    )


def load_fake_backend(config: ModelConfig) -> Backend:
    """Networks for a configuration; ``fake_config`` is one that is small."""
    return Backend(
        name="fake",
        device="cpu",
        lm=FakeSpeechLM(config.lm),
        flow=FakeFlow(config.flow),
        vocoder=FakeVocoder(config.vocoder),
    )


def load_fake_encoders(config: ModelConfig) -> tuple[SpeechTokenizer, SpeakerEncoder]:
    """Encoders whose results depend on the recording."""
    return FakeSpeechTokenizer(config), FakeSpeakerEncoder(config)


@dataclass(eq=False)
class FakeLMState:
    """Digest of everything read, in order."""

    digest: int = 0
    num_spoken: int = 0


class FakeSpeechLM:
    """``SpeechLM`` whose scores are a hash of all it has read; ends about as speech would."""

    def __init__(self, config: LMConfig) -> None:
        """Take sizes from ``config``."""
        self._config = config

    def prefill(
        self,
        segments: Sequence[Segment],
        state: FakeLMState | None = None,
        cursor: Cursor | None = None,
    ) -> tuple[FloatArray, FakeLMState]:
        """See ``SpeechLM.prefill``."""
        state = state or FakeLMState()
        for segment in segments:
            ids = segment.ids
            if segment.vector is not None:
                ids = (np.abs(segment.vector) * 1000).astype(np.int64)
            for value in ids.tolist():
                _read(state, value * 7 + _KINDS[segment.kind])
        return self._scores(state, cursor), state

    def step(
        self,
        tokens: TokenArray,
        states: Sequence[FakeLMState],
        cursors: Sequence[Cursor] | None = None,
    ) -> FloatArray:
        """See ``SpeechLM.step``."""
        rows = []
        for index, (token, state) in enumerate(zip(tokens.tolist(), states, strict=True)):
            _read(state, token * 7 + _KINDS["speech"])
            state.num_spoken += 1
            rows.append(self._scores(state, cursors[index] if cursors else None))
        return np.stack(rows)

    def advance_logits(self, tokens: TokenArray, states: Sequence[FakeLMState]) -> FloatArray:
        """See ``SpeechLM.advance_logits``."""
        if self._config.pointer is None:
            raise BackendError("this language model has no pointer")
        width = self._config.pointer.max_advance + 2
        rows = []
        for token, state in zip(tokens.tolist(), states, strict=True):
            row = _noise(state.digest + token, width)
            row[1] += 3.0  # mostly one symbol on
            rows.append(row)
        return np.stack(rows)

    def fork(self, state: FakeLMState) -> FakeLMState:
        """See ``SpeechLM.fork``."""
        return replace(state)

    def _scores(self, state: FakeLMState, cursor: Cursor | None) -> FloatArray:
        place = 0 if cursor is None else cursor.position * 64 + cursor.dwell + 1
        scores = _noise(state.digest + place * 31, self._config.head_size)
        # only the end token ends speech; the other control tokens are for streamed text
        scores[self._config.eos] += 0.3 * state.num_spoken - 4.0
        scores[self._config.eos + 1 :] = -50.0
        return scores


@dataclass(eq=False)
class FakeFlowState:
    """What a causal network would remember: a running mean, and a count of positions."""

    memory: FloatArray
    count: int = 0


class FakeFlow:
    """``FlowNetwork`` on the host: mu is a table of the tokens with memory and look-ahead."""

    def __init__(self, config: FlowConfig) -> None:
        """Take sizes from ``config``."""
        self._config = config
        rng = np.random.default_rng(0)
        sizes = (config.speech_vocab_size, config.n_mels)
        self._table = rng.standard_normal(sizes).astype(np.float32)
        self._speaker = rng.standard_normal((config.n_mels, config.speaker_dim)).astype(np.float32)

    def to_device(self, array: FloatArray) -> FloatArray:
        """Return ``array``."""
        return array

    def to_numpy(self, array: FloatArray) -> FloatArray:
        """Return ``array``."""
        return array

    def speaker(self, embedding: FloatArray) -> FloatArray:
        """See ``FlowNetwork.speaker``."""
        projected: FloatArray = self._speaker @ (embedding / np.linalg.norm(embedding))
        return projected.astype(np.float32)

    def new_encoder_state(self) -> FakeFlowState:
        """See ``FlowNetwork.new_encoder_state``."""
        return FakeFlowState(np.zeros(self._config.n_mels, np.float32))

    def new_velocity_state(self, *, guided: bool = True) -> FakeFlowState:
        """See ``FlowNetwork.new_velocity_state``."""
        return FakeFlowState(np.zeros(self._config.n_mels, np.float32))

    def fork(self, state: FakeFlowState) -> FakeFlowState:
        """See ``FlowNetwork.fork``."""
        return replace(state, memory=state.memory.copy())

    def pack(self, state: FakeFlowState) -> dict[str, StoredArray]:
        """See ``StorableFlowNetwork.pack``."""
        return {"memory": state.memory, "count": np.full(1, state.count, np.float32)}

    def unpack_encoder(self, arrays: Mapping[str, StoredArray]) -> FakeFlowState:
        """See ``StorableFlowNetwork.unpack_encoder``."""
        return FakeFlowState(np.array(arrays["memory"]), int(arrays["count"][0]))

    def unpack_velocity(
        self, arrays: Mapping[str, StoredArray], *, guided: bool = True
    ) -> FakeFlowState:
        """See ``StorableFlowNetwork.unpack_velocity``."""
        return self.unpack_encoder(arrays)

    def trim(self, state: FakeFlowState, keep_frames: int) -> None:
        """Do nothing: this memory does not grow."""

    def encode(
        self, tokens: TokenArray, lookahead: TokenArray | None, state: FakeFlowState
    ) -> FloatArray:
        """See ``FlowNetwork.encode``."""
        ahead = self._config.encoder.lookahead_tokens
        following = np.zeros((ahead, self._config.n_mels), np.float32)
        if lookahead is not None:
            known = self._table[lookahead[:ahead]]
            following[: len(known)] = known
        rows = np.concatenate([self._table[tokens], following])
        mixed = rows[: len(tokens)].copy()
        for offset in range(1, ahead + 1):
            mixed += rows[offset : offset + len(tokens)] * np.float32(0.2 / offset)
        # where a token is no whole number of frames, the pipeline resizes one frame for each
        return np.repeat(_remember(mixed, state), self._config.token_mel_ratio or 1, axis=0)

    def regulate(self, frames: FloatArray) -> FloatArray:
        """See ``RegulatedFlowNetwork.regulate``: a mean of neighbours."""
        before, after = np.roll(frames, 1, axis=0), np.roll(frames, -1, axis=0)
        smoothed: FloatArray = (before + frames + after) / np.float32(3)
        return smoothed

    def velocity(
        self,
        x: FloatArray,
        t: float,
        mu: FloatArray,
        speaker: FloatArray,
        cond: FloatArray,
        state: FakeFlowState,
    ) -> tuple[FloatArray, FloatArray]:
        """See ``FlowNetwork.velocity``."""
        target = _remember(mu + np.float32(0.3) * speaker + np.float32(0.1) * cond, state)
        wanted: FloatArray = target - x * np.float32(1.0 - 0.5 * t)
        return wanted, -x


class FakeVocoder:
    """``VocoderNetwork``: the source made louder and softer by the mel; looks at no other frame."""

    def __init__(self, config: VocoderConfig) -> None:
        """Take sizes from ``config``."""
        self._config = config

    def f0(self, mel: FloatArray) -> FloatArray:
        """See ``VocoderNetwork.f0``."""
        pitch = 150.0 + 20.0 * np.tanh(mel[:, 0] + 5)
        return pitch.astype(np.float32)

    def excitation(self, harmonics: FloatArray) -> FloatArray:
        """See ``VocoderNetwork.excitation``."""
        if self._config.head == "source_filter":
            return harmonics
        mixed: FloatArray = np.tanh(harmonics.sum(axis=1, dtype=np.float32))
        return mixed

    def decode(
        self, mel: FloatArray, source: FloatArray, crops: CropArray | None = None
    ) -> FloatArray:
        """See ``VocoderNetwork.decode``."""
        if source.ndim == 2:
            source = source.sum(axis=1, dtype=np.float32)
        gain = 1.0 + 0.5 * np.tanh(mel[:, 1] + 5)
        audio: FloatArray = source * np.repeat(gain, self._config.samples_per_frame)
        if crops is not None and len(crops):
            first, stop = crops[-1] * self._config.upsample_rates[-1] * self._config.hop_length
            audio = audio[first:stop]
        return audio.astype(np.float32)


@dataclass(frozen=True)
class FakeSpeechTokenizer:
    """``SpeechTokenizer``: a hash of the loudest band."""

    config: ModelConfig

    def tokens(self, log_mel: FloatArray) -> TokenArray:
        """See ``SpeechTokenizer.tokens``."""
        step = 100 // self.config.token_rate
        loudest = log_mel[: len(log_mel) // step * step : step].argmax(axis=1)
        tokens: TokenArray = loudest.astype(np.int64) * 7 % self.config.lm.speech_vocab_size
        return tokens


@dataclass(frozen=True)
class FakeSpeakerEncoder:
    """``SpeakerEncoder``: the spectrum's spread over the bands."""

    config: ModelConfig
    floor: float = field(default=1e-3)

    def embed(self, fbank: FloatArray) -> FloatArray:
        """See ``SpeakerEncoder.embed``."""
        size = self.config.flow.speaker_dim
        vector: FloatArray = fbank.std(axis=0)[:size] + np.float32(self.floor)
        return vector.astype(np.float32)


def _read(state: FakeLMState, value: int) -> None:
    state.digest = (state.digest * 33 + value + 1) * _SPREAD % (1 << 32)


def _noise(seed: int, size: int) -> FloatArray:
    """Scores (size,) that look random and depend on the seed alone."""
    mixed = (np.arange(size, dtype=np.uint64) + np.uint64(seed % (1 << 32))) * np.uint64(_SPREAD)
    return ((mixed >> np.uint64(8)) % np.uint64(1000)).astype(np.float32) / np.float32(250)


def _remember(rows: FloatArray, state: FakeFlowState) -> FloatArray:
    """Mix each row with a decaying memory of those before, one by one."""
    out = np.empty_like(rows)
    for index, row in enumerate(rows):
        state.memory = np.float32(0.7) * state.memory + np.float32(0.3) * row
        out[index] = state.memory
        state.count += 1
    return out
