"""Configuration of the text-speech language model, and how its tokens are drawn."""

from __future__ import annotations

from typing import Literal

from mynah.config.part import Part


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


class TextEncoderConfig(Part):
    """Strictly causal conformer that reads the text before the language model does (CosyVoice 1).

    Its output is projected to the language model's width.
    """

    input_size: int = 512
    """Width of the text embedding."""
    dim: int = 1024
    num_heads: int = 16
    feed_forward: int = 4096
    num_blocks: int = 6


class LMConfig(Part):
    """Text-speech language model: a causal trunk with speech embedding and speech head."""

    trunk: Literal["qwen2", "relative"] = "qwen2"
    """``qwen2``: rotary positions, grouped queries, SwiGLU; ``relative``: CosyVoice 1's layers with
    relative positions (Transformer-XL as in ESPnet), ReLU feed-forward, no key/value groups."""
    text_encoder: TextEncoderConfig | None = None
    """None = the text embedding is read as it is."""
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
    """Rows of embedding and head after the S speech tokens; all of them stop speech."""
    eos_offset: int = 0
    """The end of speech is id S + this."""
    fill_offset: int | None = 2
    """The token that asks for more text is id S + this; None = the model cannot ask."""
    marker_offsets: tuple[int, int] | None = None
    """The markers sos and task are the speech embedding's rows S + these; None = own table."""
    has_head_bias: bool = True
    text_speech_mix: tuple[int, int] | None = None
    """Text tokens and speech tokens of one turn when text arrives while speech leaves; None = the
    model wants an utterance's whole text first."""
    silent_tokens: tuple[int, ...] = ()
    """Speech tokens that sound like silence; runs of them are cut to ``max_silent_tokens``."""
    max_silent_tokens: int = 5
    speaker_dim: int | None = None
    """Size of a speaker vector read as one position after ``sos``; None = not used."""
    reads_prompt_speech: bool = True
    """Whether zero-shot prompts put their speech tokens into the language model."""
    pointer: PointerConfig | None = None

    @property
    def eos(self) -> int:
        """Id of the end-of-speech token."""
        return self.speech_vocab_size + self.eos_offset

    @property
    def fill(self) -> int | None:
        """Id of the token that asks for more text, if there is one."""
        return None if self.fill_offset is None else self.speech_vocab_size + self.fill_offset

    @property
    def head_size(self) -> int:
        """Number of logits."""
        return self.speech_vocab_size + self.num_control_tokens


class SamplingConfig(Part):
    """Default decoding settings of a model (repetition-aware sampling, VALL-E 2)."""

    top_p: float = 0.8
    top_k: int = 25
    repetition_window: int = 10
    repetition_threshold: float = 0.1
    min_token_text_ratio: float = 2.0
    max_token_text_ratio: float = 20.0
