"""Model configuration: strict, frozen data read from a model folder's ``config.json``.

Rates and sizes that follow from others are properties, so that no number is written twice.
Differences between model families are values here, never class names in logic.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mynah.errors import ModelFormatError


class Part(BaseModel):
    """Base of every configuration part: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PointerConfig(Part):
    """Explicit monotonic text pointer of a small language model (absent in released models)."""

    max_advance: int = 4
    """Largest number of text positions one speech token may advance."""
    max_dwell: int = 63
    """Largest number of tokens counted on one text position."""
    forced_advance: int = 14
    """Tokens on one text position after which the pointer must move on."""
    forced_advance_pause: int = 25
    """The same limit on punctuation and silence."""


class LMConfig(Part):
    """Text-speech language model: a Qwen2 trunk with speech embedding and speech head."""

    text_vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    rope_theta: float = 1e6
    rms_norm_eps: float = 1e-6
    speech_vocab_size: int = 6561
    """Number of speech tokens S; ids S.. are control tokens."""
    num_control_tokens: int = 3
    """Rows of embedding and head after the S speech tokens: end, (unused), fill."""
    speaker_dim: int | None = None
    """Size of a speaker vector read as one position after ``sos``; None = not used."""
    reads_prompt_speech: bool = True
    """Whether zero-shot prompts put their speech tokens into the language model."""
    pointer: PointerConfig | None = None

    @property
    def eos(self) -> int:
        """Id of the end-of-speech token."""
        return self.speech_vocab_size

    @property
    def fill(self) -> int:
        """Id of the token that asks for more text."""
        return self.speech_vocab_size + 2

    @property
    def head_size(self) -> int:
        """Number of logits."""
        return self.speech_vocab_size + self.num_control_tokens


class TokenEncoderConfig(Part):
    """Look-ahead and conformer encoder that turns speech tokens into frames at twice the rate."""

    dim: int
    num_heads: int
    feed_forward: int
    num_blocks: int = 6
    num_up_blocks: int = 4
    lookahead_tokens: int = 3
    chunk_tokens: int = 25


class VelocityConfig(Part):
    """Causal chunk-aware U-Net velocity network (one resolution)."""

    channels: int = 256
    num_heads: int = 8
    head_dim: int = 64
    transformers_per_block: int = 4
    num_mid_blocks: int = 12
    prior_std: float | None = None
    """When set, the network only corrects the velocity that would be right if mels were normal
    around the encoder's frames with this standard deviation; None for released models."""


class FlowConfig(Part):
    """Flow matching decoder: token encoder, velocity network, solver settings."""

    speech_vocab_size: int = 6561
    input_size: int = 512
    """Width of the token embedding."""
    n_mels: int = 80
    speaker_dim: int = 192
    encoder: TokenEncoderConfig
    velocity: VelocityConfig
    token_mel_ratio: int = 2
    num_steps: int = 10
    cfg_rate: float = 0.7
    """Strength of classifier-free guidance; 0 = the unconditional branch is not run at all."""
    temperature: float = 1.0
    """Standard deviation of the initial noise."""
    mel_mean: float = 0.0
    """Mels are normalised as (mel - mean) / std inside the flow; released models use 0 and 1."""
    mel_std: float = 1.0
    noise: Literal["torch", "numpy"] = "torch"
    """Where the fixed initial noise comes from: a file drawn by torch (seed 0), or NumPy seed 0."""


class VocoderConfig(Part):
    """HiFT vocoder: F0 predictor, harmonic source, upsampling convolutions, inverse STFT."""

    head: Literal["polar", "source_filter"] = "polar"
    """How the spectrum is made. ``polar`` (released models): predicted magnitude and phase, the
    source is an input of every stage. ``source_filter`` (the embedded model): the predicted
    magnitudes and phase filter the spectra of a pulse train and of noise, so that a network
    trained for minutes already has clean harmonics."""
    mel_mean: float = 0.0
    mel_std: float = 1.0
    """The networks read (mel - mean) / std; released models use 0 and 1."""
    n_mels: int = 80
    base_channels: int = 512
    num_harmonics: int = 8
    """Overtones beside the fundamental."""
    sine_amplitude: float = 0.1
    noise_std: float = 0.003
    voiced_threshold_hz: float = 10.0
    upsample_rates: tuple[int, ...] = (8, 5, 3)
    upsample_kernel_sizes: tuple[int, ...] = (16, 11, 7)
    n_fft: int = 16
    hop_length: int = 4
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    source_resblock_kernel_sizes: tuple[int, ...] = (7, 7, 11)
    source_resblock_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    leaky_slope: float = 0.1
    audio_limit: float = 0.99
    f0_channels: int = 512

    @property
    def samples_per_frame(self) -> int:
        """Output samples for one mel frame."""
        total = self.hop_length
        for rate in self.upsample_rates:
            total *= rate
        return total


class MelConfig(Part):
    """Log-mel spectrogram that the flow produces and the vocoder reads."""

    sample_rate: int = 24000
    n_fft: int = 1920
    hop_length: int = 480
    win_length: int = 1920
    n_mels: int = 80
    fmin: float = 0.0
    fmax: float | None = 8000.0


class SamplingConfig(Part):
    """Default decoding settings of a model (repetition-aware sampling, VALL-E 2)."""

    top_p: float = 0.8
    top_k: int = 25
    repetition_window: int = 10
    repetition_threshold: float = 0.1
    min_token_text_ratio: float = 2.0
    max_token_text_ratio: float = 20.0


class ModelConfig(Part):
    """Everything about a model except its weights."""

    format_version: Literal[1] = 1
    model_id: str
    family: Literal["cosyvoice2", "nano"]
    languages: tuple[str, ...]
    """Languages the weights can speak, as BCP 47 codes."""
    text_frontend: Literal["qwen2-bpe", "phonemes"]
    token_rate: int = 25
    sample_rate: int = 24000
    lm: LMConfig
    flow: FlowConfig
    vocoder: VocoderConfig
    mel: MelConfig = Field(default_factory=MelConfig)
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    supports_instruction: bool = False
    default_voice: str | None = None

    @property
    def mel_rate(self) -> int:
        """Mel frames per second."""
        return self.token_rate * self.flow.token_mel_ratio

    @property
    def samples_per_token(self) -> int:
        """Output samples for one speech token."""
        return self.mel.hop_length * self.flow.token_mel_ratio

    @model_validator(mode="after")
    def _check_rates(self) -> Self:
        if self.vocoder.samples_per_frame != self.mel.hop_length:
            raise ValueError(
                f"the vocoder makes {self.vocoder.samples_per_frame} samples per frame, "
                f"the mel hop is {self.mel.hop_length}"
            )
        if self.lm.speech_vocab_size != self.flow.speech_vocab_size:
            raise ValueError("language model and flow disagree about the number of speech tokens")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and check ``config.json``.

        Raises:
            ModelFormatError: if the file is no JSON, or a value is missing, unknown or wrong.
        """
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, ValidationError) as error:
            raise ModelFormatError(
                f"cannot read the model configuration {path}: {error}",
                hint="download or convert the model again; config.json must not be edited",
            ) from error
