"""Configuration of the flow matching decoder: token encoders and velocity networks."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Tag

from mynah.config.part import Part


class TokenEncoderConfig(Part):
    """Look-ahead and conformer encoder that turns speech tokens into frames at twice the rate."""

    kind: Literal["upsample_conformer"] = "upsample_conformer"
    dim: int
    num_heads: int
    feed_forward: int
    num_blocks: int = 6
    num_up_blocks: int = 4
    lookahead_tokens: int = 3
    chunk_tokens: int = 25


class LookaheadEncoderConfig(Part):
    """Two convolutions that look ahead, then each token repeated (CosyVoice 3)."""

    kind: Literal["lookahead"]
    channels: int = 1024
    lookahead_tokens: int = 3
    chunk_tokens: int = 25


class RegulatedEncoderConfig(Part):
    """Conformer with full attention, then a length regulator to the mel rate (CosyVoice 1).

    Nothing of it is causal: a stream is made in windows of ``chunk_tokens`` that share
    ``overlap_tokens``, whose frames are cross-faded.
    """

    kind: Literal["regulated_conformer"]
    dim: int
    num_heads: int
    feed_forward: int
    num_blocks: int = 6
    num_regulator_convs: int = 4
    edge_tokens: int = 20
    """Tokens at both ends of an utterance that are stretched apart from the middle."""
    first_chunk_tokens: int = 50
    """New tokens of a stream's first window; a shorter one gives sound earlier."""
    chunk_tokens: int = 100
    """New tokens of every later window."""
    overlap_tokens: int = 20

    @property
    def lookahead_tokens(self) -> int:
        """Tokens after a window's own that must be known before it can be computed."""
        return self.overlap_tokens


class VelocityConfig(Part):
    """U-Net velocity network; the causal, chunk-aware kind has one resolution."""

    kind: Literal["unet"] = "unet"
    is_causal: bool = True
    """False (CosyVoice 1): symmetric convolutions, group norm, full attention, and one level of
    down- and up-sampling by two."""
    channels: int = 256
    num_heads: int = 8
    head_dim: int = 64
    transformers_per_block: int = 4
    num_mid_blocks: int = 12
    prior_std: float | None = None
    """When set, the network only corrects the velocity that would be right if mels were normal
    around the encoder's frames with this standard deviation; None for released models."""


class DiTConfig(Part):
    """Causal chunk-aware diffusion transformer as velocity network (CosyVoice 3)."""

    kind: Literal["dit"]
    dim: int = 1024
    depth: int = 22
    num_heads: int = 16
    head_dim: int = 64
    feed_forward_factor: int = 2
    conv_kernel: int = 31
    """Of the two grouped convolutions that encode positions."""
    conv_groups: int = 16


def _kind_or(default: str) -> Discriminator:
    """Choose a part by its ``kind``; configurations from before there were several have none."""

    def find(value: Any) -> str:
        kind = value.get("kind", default) if isinstance(value, dict) else value.kind
        return str(kind)

    return Discriminator(find)


EncoderPart: TypeAlias = Annotated[
    Annotated[TokenEncoderConfig, Tag("upsample_conformer")]
    | Annotated[LookaheadEncoderConfig, Tag("lookahead")]
    | Annotated[RegulatedEncoderConfig, Tag("regulated_conformer")],
    _kind_or("upsample_conformer"),
]
VelocityPart: TypeAlias = Annotated[
    Annotated[VelocityConfig, Tag("unet")] | Annotated[DiTConfig, Tag("dit")], _kind_or("unet")
]


class FlowConfig(Part):
    """Flow matching decoder: token encoder, velocity network, solver settings."""

    speech_vocab_size: int = 6561
    input_size: int = 512
    """Width of the token embedding."""
    n_mels: int = 80
    speaker_dim: int = 192
    encoder: EncoderPart
    velocity: VelocityPart
    token_mel_ratio: int | None = 2
    """Mel frames for one token; None = not a whole number, see ``ModelConfig.num_frames``."""
    num_steps: int = 10
    cfg_rate: float = 0.7
    """Strength of classifier-free guidance; 0 = the unconditional branch is not run at all."""
    guided_steps: int | None = None
    """Only so many Euler steps, the first ones, are guided; None = all, as in released models."""
    temperature: float = 1.0
    """Standard deviation of the initial noise."""
    mel_mean: float = 0.0
    """Mels are normalised as (mel - mean) / std inside the flow; released models use 0 and 1."""
    mel_std: float = 1.0
    noise: Literal["torch", "numpy"] = "torch"
    """Where the fixed initial noise comes from: a file drawn by torch (seed 0), or NumPy seed 0."""

    @property
    def frames_per_token(self) -> int:
        """``token_mel_ratio`` of a model that has one.

        Raises:
            ValueError: if a token is no whole number of frames.
        """
        if self.token_mel_ratio is None:
            raise ValueError("a token of this model is no whole number of mel frames")
        return self.token_mel_ratio
