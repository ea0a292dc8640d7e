"""Tiny random models of both families in the format of a model folder, made on the fly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mynah.config import (
    FlowConfig,
    InstructConfig,
    LMConfig,
    ModelConfig,
    PointerConfig,
    SamplingConfig,
    TokenEncoderConfig,
    VelocityConfig,
    VocoderConfig,
)
from mynah.export.model import export_model
from mynah.networks.flow import Flow
from mynah.networks.language_model import SpeechLanguageModel
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
FAMILIES = ("nano", "cosyvoice2")


def tiny_config(family: str = "nano") -> ModelConfig:
    """Two layers of everything, at the real mel and sample rates."""
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
    sizes = (2 * num_tokens, config.flow.n_mels)
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
        lm, flow = SpeechLanguageModel(config.lm), Flow(config.flow)
        vocoder = HiFT(config.vocoder)
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
