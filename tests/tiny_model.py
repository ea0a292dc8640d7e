"""Tiny random models of every family in the format of a model folder, made on the fly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mynah.config import (
    DiTConfig,
    FlowConfig,
    InstructConfig,
    LMConfig,
    LookaheadEncoderConfig,
    MelConfig,
    ModelConfig,
    PointerConfig,
    RegulatedEncoderConfig,
    SamplingConfig,
    TextEncoderConfig,
    TokenEncoderConfig,
    VelocityConfig,
    VocoderConfig,
)
from mynah.export.model import export_model
from mynah.networks.build import build_language_model
from mynah.networks.flow import Flow
from mynah.networks.speaker_encoder import SpeakerEncoder
from mynah.networks.speech_tokenizer import SpeechTokenizer, SpeechTokenizerSize
from mynah.networks.vocoder import HiFT
from mynah.text.symbols import NUM_SYMBOLS
from mynah.types import Voice

NUM_DIGITS = 4
VOCABULARY = 3**NUM_DIGITS
SPEAKER_DIM = 12
CHUNK = 5
BACKENDS = ("onnx", "torch")
FAMILIES = ("nano", "cosyvoice1", "cosyvoice2", "cosyvoice3")


def tiny_config(family: str = "nano") -> ModelConfig:
    """Two layers of everything, at the real mel and sample rates."""
    if family == "cosyvoice3":
        return _third_generation(tiny_config("cosyvoice2"))
    if family == "cosyvoice1":
        return _first_generation(tiny_config("cosyvoice2"))
    nano = family == "nano"
    return ModelConfig(
        model_id=f"tiny-{family}",
        family="nano" if nano else "cosyvoice2",
        languages=("en",) if nano else ("zh", "en", "ja", "ko", "yue"),
        text_frontend="phonemes" if nano else "qwen2-bpe",
        lm=LMConfig(
            text_vocab_size=NUM_SYMBOLS if nano else 300,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            head_dim=8,
            intermediate_size=48,
            speech_vocab_size=VOCABULARY,
            speaker_dim=SPEAKER_DIM if nano else None,
            reads_prompt_speech=not nano,
            pointer=PointerConfig(forced_advance=4, forced_advance_pause=5) if nano else None,
        ),
        flow=FlowConfig(
            speech_vocab_size=VOCABULARY,
            input_size=16,
            speaker_dim=SPEAKER_DIM,
            encoder=TokenEncoderConfig(
                dim=16,
                num_heads=2,
                feed_forward=24,
                num_blocks=2,
                num_up_blocks=1,
                chunk_tokens=CHUNK,
            ),
            velocity=VelocityConfig(
                channels=16,
                num_heads=2,
                head_dim=12,
                transformers_per_block=1,
                num_mid_blocks=1,
                prior_std=0.3 if nano else None,
            ),
            cfg_rate=0.0 if nano else 0.7,
            temperature=0.6 if nano else 1.0,
            num_steps=2,
            mel_mean=-4.0,
            mel_std=2.0,
            noise="numpy" if nano else "torch",
        ),
        vocoder=_vocoder("source_filter" if nano else "polar"),
        sampling=SamplingConfig(
            min_token_text_ratio=1.0 if nano else 0.5, max_token_text_ratio=6.0
        ),
        instruct=None if nano else InstructConfig(),
        default_voice="tiny",
    )


def _first_generation(second: ModelConfig) -> ModelConfig:
    """What CosyVoice 1 does in another way, at the sizes of the tiny CosyVoice 2."""
    lm = {
        "trunk": "relative",
        "text_encoder": TextEncoderConfig(
            input_size=16, dim=24, num_heads=2, feed_forward=32, num_blocks=2
        ),
        "num_kv_heads": second.lm.num_heads,
        "num_control_tokens": 1,
        "fill_offset": None,
        "speaker_dim": SPEAKER_DIM,
    }
    flow = {
        "encoder": RegulatedEncoderConfig(
            kind="regulated_conformer",
            dim=16,
            num_heads=2,
            feed_forward=24,
            num_blocks=2,
            edge_tokens=CHUNK,
            first_chunk_tokens=2 * CHUNK,
            chunk_tokens=3 * CHUNK,
            overlap_tokens=CHUNK,
        ),
        "velocity": second.flow.velocity.model_copy(update={"is_causal": False}),
        "token_mel_ratio": None,
        "noise": "numpy",
    }
    vocoder = {
        "upsample_rates": (8, 8),
        "upsample_kernel_sizes": (16, 16),
        "source_resblock_kernel_sizes": (3, 3),
        "source_resblock_dilations": ((1,), (1,)),
        "sine_phase": "sample",
    }
    return second.model_copy(
        update={
            "model_id": "tiny-cosyvoice1",
            "family": "cosyvoice1",
            "text_frontend": "whisper-bpe",
            "token_rate": 50,
            "sample_rate": 22050,
            "lm": second.lm.model_copy(update=lm),
            "flow": second.flow.model_copy(update=flow),
            "vocoder": second.vocoder.model_copy(update=vocoder),
            "mel": MelConfig(sample_rate=22050, n_fft=1024, hop_length=256, win_length=1024),
            "instruct": InstructConfig(speaker_in_lm=False, prompt_in_flow=False),
        }
    )


def _third_generation(second: ModelConfig) -> ModelConfig:
    """What CosyVoice 3 does in another way, at the sizes of the tiny CosyVoice 2."""
    lm = {
        "num_control_tokens": 12,
        "eos_offset": 1,
        "fill_offset": 3,
        "marker_offsets": (0, 2),
        "has_head_bias": False,
        "text_speech_mix": (5, 15),
        "silent_tokens": (1, 2, 28, 29, 55),
    }
    flow = {
        "input_size": second.flow.n_mels,
        "encoder": LookaheadEncoderConfig(kind="lookahead", channels=24, chunk_tokens=CHUNK),
        "velocity": DiTConfig(
            kind="dit", dim=32, depth=2, num_heads=2, head_dim=16, conv_kernel=5, conv_groups=4
        ),
    }
    vocoder = {
        "is_causal": True,
        "lookahead_frames": 4,
        "f0_lookahead_frames": 3,
        "f0_float64": True,
        "sine_phase": "frame_hold",
        "sine_noise": "uniform",
    }
    return second.model_copy(
        update={
            "model_id": "tiny-cosyvoice3",
            "family": "cosyvoice3",
            "lm": second.lm.model_copy(update=lm),
            "flow": second.flow.model_copy(update=flow),
            "vocoder": second.vocoder.model_copy(update=vocoder),
            "mel": second.mel.model_copy(update={"fmax": None}),
        }
    )


def _vocoder(head: str) -> VocoderConfig:
    plain = VocoderConfig(
        base_channels=16,
        num_harmonics=2,
        resblock_kernel_sizes=(3,),
        resblock_dilations=((1,),),
        f0_channels=8,
        source_resblock_kernel_sizes=(3, 3, 3),
        source_resblock_dilations=((1,), (1,), (1,)),
    )
    if head == "polar":
        return plain
    changes = {
        "head": "source_filter",
        "upsample_rates": (4,),
        "upsample_kernel_sizes": (8,),
        "n_fft": 480,
        "hop_length": 120,
        "source_resblock_kernel_sizes": (3,),
        "source_resblock_dilations": ((1,),),
    }
    return VocoderConfig.model_validate(plain.model_dump() | changes)


def tiny_voice(config: ModelConfig, num_tokens: int = 18, name: str = "tiny") -> Voice:
    """A voice of random numbers in the right ranges."""
    rng = np.random.default_rng(5)
    sizes = (config.num_frames(num_tokens), config.flow.n_mels)
    return Voice(
        name=name,
        model_id=config.model_id,
        transcript="a few words",
        speech_tokens=rng.integers(0, VOCABULARY, num_tokens),
        mel=rng.standard_normal(sizes).astype(np.float32) - 4,
        speaker_embedding=rng.standard_normal(config.flow.speaker_dim).astype(np.float32),
    )


def build_tiny_model(folder: Path, family: str = "nano", **options: object) -> dict[str, float]:
    """Write a model folder; ``options`` go to ``export_model``."""
    config = tiny_config(family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        lm, flow = build_language_model(config.lm), Flow(config.flow)
        vocoder = HiFT(config.vocoder)
        if config.lm.num_control_tokens == 1:  # one must end speech as often as three do
            with torch.no_grad():
                lm.speech_head.bias[config.lm.eos] += 1.5
        size = SpeechTokenizerSize(num_digits=NUM_DIGITS, dim=16, num_blocks=1, num_phonemes=8)
        tokenizer = SpeechTokenizer(size).eval()
        speaker = SpeakerEncoder(SPEAKER_DIM, dim=16, num_blocks=1).eval()
    return export_model(
        folder,
        config,
        lm,
        flow,
        vocoder,
        tokenizer,
        speaker,
        voices=[tiny_voice(config)],
        **options,  # type: ignore[arg-type]
    )
