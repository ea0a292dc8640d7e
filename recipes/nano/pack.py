"""Stage 6: the trained parts -> the model folder that ships inside the package.

    python -m recipes.nano.pack RUNS src/mynah/models/nano --cache CACHE

Takes the averaged weights, writes the training-time embeddings as plain tables, and makes the
built-in voices from training recordings. With weights for the torch backend, and with voices made
before:

    python -m recipes.nano.pack RUNS nano-float --voices src/mynah/models/nano/voices --float
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mynah.config import ModelConfig, SamplingConfig
from mynah.export.model import export_model
from mynah.networks.flow import Flow
from mynah.networks.language_model import SpeechLanguageModel
from mynah.networks.vocoder import HiFT
from mynah.pipeline.voices import VOICE_SUFFIX, load_voice
from mynah.types import Voice
from recipes.nano import train_flow, train_lm, train_vocoder
from recipes.nano.extract import load as load_tokenizer
from recipes.nano.prepare import MEL
from recipes.nano.store import Corpus

VOICES = {
    "kathleen": ("kathleen", "CC0-1.0", "dataset-voice-kathleen", 0),
    "lj": ("ljspeech", "public domain", "LJ Speech, a LibriVox reader", 78),
}
"""Corpus, licence, source, tokens of the prompt (78 = three chunks and their look-ahead)."""


def averaged(module: nn.Module, run: Path) -> nn.Module:
    """The module with the run's averaged weights."""
    module.load_state_dict(torch.load(run.with_suffix(".pt"), weights_only=True)["average"])
    return module.eval()


def language_model(run: Path) -> SpeechLanguageModel:
    """Language model with plain tables; the control rows of the table are never read."""
    model = averaged(train_lm.build(), run)
    model.pointer.token = model.pointer.token.materialise()
    table = model.speech_embedding.materialise().weight.detach()
    control = torch.zeros(train_lm.CONFIG.num_control_tokens, table.shape[1])
    model.speech_embedding = nn.Embedding.from_pretrained(torch.cat([table, control]))
    return model


def flow_decoder(run: Path) -> Flow:
    """Flow with a plain token table."""
    flow = averaged(train_flow.build(), run)
    flow.encoder.embedding = flow.encoder.embedding.materialise()
    return flow


def make_voice(cache: Path, name: str, model_id: str) -> Voice:
    """A voice from the corpus: the average speaker vector, and a prompt if it needs one.

    The main voice does not: 78 tokens of one recording brought that recording's background along
    (DNSMOS 2.61 against 2.84 without, twelve sentences) and delayed the first audio. The other
    voice drifts to the main one without (similarity 0.87 to either; with a prompt 0.99 and 0.63).
    """
    corpus_name, licence, source, size = VOICES[name]
    corpus = Corpus(cache, corpus_name)
    vectors = np.load(cache / f"{corpus_name}.speakers.npz")["vectors"]
    rows = [i for i, clip in enumerate(corpus.clips) if clip.split == "train"]
    mean = vectors[rows].mean(axis=0)
    mean /= np.linalg.norm(mean)
    long = [i for i in rows if size < corpus.clips[i].num_tokens < max(size, 1) * 1.6]
    clip = corpus.clips[max(long or rows, key=lambda i: float(vectors[i] @ mean))]
    return Voice(
        name=name, model_id=model_id,
        speech_tokens=corpus.get(clip, "tokens", 0, size).astype(np.int64),
        mel=corpus.get(clip, "mel", 0, size), speaker_embedding=mean.astype(np.float32),
        transcript="", language="en", licence=licence, consent=f"published corpus: {source}",
        version=1, created="2026-11-21",
    )  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("out", type=Path)
    voices = parser.add_mutually_exclusive_group(required=True)
    voices.add_argument("--cache", type=Path, help="prepared corpora, to make the voices from")
    voices.add_argument("--voices", type=Path, help="folder of voices made before")
    parser.add_argument("--float", action="store_true", help="store everything in float32")
    options = parser.parse_args()
    config = ModelConfig(
        model_id="nano-en-1", family="nano", languages=("en",), text_frontend="phonemes",
        lm=train_lm.CONFIG, flow=train_flow.CONFIG, vocoder=train_vocoder.CONFIG, mel=MEL,
        sampling=SamplingConfig(
            # the pointer already rules out loops, and steady sounds do repeat tokens
            top_p=0.4, repetition_threshold=1.0, min_token_text_ratio=0.5, max_token_text_ratio=6.0,
        ),
        default_voice="kathleen",
    )  # fmt: skip
    voices_made = (
        [make_voice(options.cache, name, config.model_id) for name in VOICES]
        if options.cache
        else [load_voice(path) for path in sorted(options.voices.glob(f"*{VOICE_SUFFIX}"))]
    )
    tokenizer = load_tokenizer(options.runs / "tokenizer")
    errors = export_model(
        options.out, config, language_model(options.runs / "lm"),
        flow_decoder(options.runs / "flow"),
        averaged(HiFT(train_vocoder.CONFIG), options.runs / "vocoder"),
        tokenizer.tokenizer, tokenizer.speaker, weights=options.float,
        # F0 in half precision is 0.02 Hz off, which adds up in the phase
        variants={} if options.float else {"*": "int8_weights", "vocoder_f0": "float32"},
        voices=voices_made,
    )  # fmt: skip
    print(json.dumps(errors, indent=1))


if __name__ == "__main__":
    main()
