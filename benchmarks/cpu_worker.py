"""Measured process for ``benchmarks/cpu.py``: reads a job on stdin, prints one JSON line.

A fresh process for every run, so that start-up and peak memory are its own. Text ids, voice and
utterance length are given, as they are to the official code (``official_worker.py``); no text front
end is timed on either side.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mynah.backends.base import Segment
from mynah.backends.registry import load_backend, load_noise
from mynah.engine.scheduler import Scheduler
from mynah.engine.stream import SpeechStream
from mynah.errors import GenerationLimitError
from mynah.hub import find_model
from mynah.pipeline.model import SpeechModel, build_model, prepare_voice
from mynah.pipeline.reading import NO_PROMPT, PromptText, Utterance
from mynah.pipeline.session import Session
from mynah.pipeline.synthesizer import run
from mynah.types import AudioChunk, SynthesisRequest, TokenArray, Voice

_CONTEXT, _DECODED = 200, 40
_SENTENCES, _SENTENCE_TOKENS = 6, 100
_AHEAD = "mynah-ahead"
"""Threads that make tokens beside audio: their time is not in the sum of the stages."""
_STAGES = ("LM", "LM beside the audio", "encoder", "flow", "vocoder")


class FixedReader:
    """Texts of a given number of ids, whatever the words: the models' weights are random."""

    def __init__(self, num_ids: int, num_transcript_ids: int, sentences: int = 1) -> None:
        rng = np.random.default_rng(1)
        self._sentences = sentences
        self._ids = rng.integers(0, 1000, num_ids)
        self._transcript = rng.integers(0, 1000, num_transcript_ids)

    def __getattr__(self, name: str) -> Any:
        """Everything else a reader can be asked: no opinion."""
        return lambda *_, **__: None

    def utterances(  # noqa: D102 - as in ``TextReader``
        self, text: str, language: str | None = None, **_: Any
    ) -> Iterator[Utterance]:
        for _ in range(self._sentences):
            yield Utterance(text, self._ids, np.zeros(len(self._ids), np.bool_), 0.0)

    def ids(self, *_: Any, **__: Any) -> TokenArray:  # noqa: D102
        return self._transcript

    def prompt_text(self, kind: str, *_: Any, **__: Any) -> PromptText:  # noqa: D102
        return PromptText(self._transcript) if kind == "transcript" else NO_PROMPT


class Timed:
    """A network whose calls are counted and timed under ``stage``."""

    def __init__(self, network: Any, stages: dict[str, str], seconds: dict[str, float]) -> None:
        self._network, self._stages, self._seconds = network, stages, seconds

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._network, name)
        if not callable(attribute):
            return attribute
        stage = self._stages.get(name, self._stages["*"])

        def call(*args: Any, **options: Any) -> Any:
            beside = threading.current_thread().name == _AHEAD
            started = time.perf_counter()
            try:
                return attribute(*args, **options)
            finally:
                self._seconds[stage + " beside the audio" * beside] += time.perf_counter() - started

        return call


def main() -> None:
    """Load, say when ready, measure."""
    job = json.load(sys.stdin)
    folder = find_model(job["model"], checksums=False)
    config = folder.config()
    backend = load_backend(folder.path, config, threads=job["threads"], backend=job["backend"])
    ready_s = time.time() - job["started"]  # Python's own start and all imports included
    seconds: dict[str, float] = defaultdict(float)
    timed = replace(
        backend,
        lm=Timed(backend.lm, {"*": "LM"}, seconds),
        flow=Timed(backend.flow, {"*": "flow", "encode": "encoder"}, seconds),
        vocoder=Timed(backend.vocoder, {"*": "vocoder"}, seconds),
    )
    model = build_model(
        config,
        timed,
        FixedReader(job["text_ids"], job["prompt_text_ids"]),
        noise=load_noise(folder.path),
        **job.get("options", {}),
    )
    voice = _voice(model, job["prompt_tokens"])
    prepared = prepare_voice(model, voice)
    result: dict[str, Any] = {"ready_s": ready_s, "disk_bytes": _disk(folder.path)}
    made_ready = _Ready(model, voice, prepared, job["text_ids"])
    result["cold"] = made_ready.stream(job["tokens"])  # first calls allocate
    seconds.clear()
    result["stream"] = made_ready.stream(job["tokens"])
    result["stages_s"] = {name: seconds[name] for name in _STAGES}
    result["peak_memory_bytes"] = _peak_memory()
    result["whole"] = made_ready.whole(job["tokens"])
    if job["more"]:
        result["cold_long"] = made_ready.stream(3 * job["tokens"])
        result["long"] = made_ready.stream(3 * job["tokens"])
        text = replace(
            model, reader=FixedReader(job["text_ids"], job["prompt_text_ids"], _SENTENCES)
        )
        sentences = _Ready(text, voice, prepared, job["text_ids"])
        result["sentences"] = sentences.whole(_SENTENCE_TOKENS)
        result["sentences_stream"] = sentences.stream(_SENTENCE_TOKENS)
        result["lm_tokens_per_s"] = {
            str(batch): _decode(backend.lm, config.lm.speech_vocab_size, batch)
            for batch in (1, 2, 4)
        }
    print(json.dumps(result))


def _voice(model: SpeechModel, num_tokens: int) -> Voice:
    rng = np.random.default_rng(2)
    config = model.config
    frames = config.num_frames(num_tokens)
    mel = (rng.standard_normal((frames, config.flow.n_mels)) - 5).astype(np.float32)
    return Voice(
        name="bench",
        model_id=config.model_id,
        transcript="Known words." if config.lm.reads_prompt_speech else "",
        speech_tokens=rng.integers(0, config.flow.speech_vocab_size, num_tokens),
        mel=mel,
        speaker_embedding=rng.standard_normal(config.flow.speaker_dim).astype(np.float32),
    )


class _Ready:
    """A model and a voice, to speak utterances of exactly so many tokens."""

    def __init__(self, model: SpeechModel, voice: Voice, prepared: Any, text_ids: int) -> None:
        self._model, self._voice = model, voice
        self._prepared, self._text_ids = prepared, text_ids

    def stream(self, tokens: int) -> dict[str, float]:
        """As ``TTS.stream``: to a listener, by the scheduler."""
        started = time.perf_counter()
        session = self._session(tokens, whole=False)
        stream = SpeechStream(session, Scheduler(self._model.lm), capacity=1000)
        return _measured(stream, started, self._model.config.sample_rate)

    def whole(self, tokens: int) -> dict[str, float]:
        """As ``TTS.synthesize``: all at once."""
        started = time.perf_counter()
        session = self._session(tokens, whole=True)
        return _measured(run(session), started, self._model.config.sample_rate)

    def _session(self, tokens: int, *, whole: bool) -> Session:
        ratio = (tokens + 0.5) / self._text_ids
        config = self._model.config
        sampling = config.sampling.model_copy(
            update={"min_token_text_ratio": ratio, "max_token_text_ratio": ratio}
        )
        pinned = replace(self._model, config=config.model_copy(update={"sampling": sampling}))
        request = SynthesisRequest(text="words", voice=self._voice, seed=1)
        return Session(pinned, request, lambda: self._prepared, whole=whole)


def _measured(chunks: Iterable[AudioChunk], started: float, rate: int) -> dict[str, float]:
    first, samples, late = 0.0, 0, 0.0
    with suppress(GenerationLimitError):  # the length is the limit here
        for chunk in chunks:
            if len(chunk.audio):
                now = time.perf_counter() - started
                first = first or now
                late = max(late, now - first - samples / rate)
                samples += len(chunk.audio)
    total = time.perf_counter() - started
    audio_s = samples / rate
    return {
        "first_audio_s": first, "rtf": total / audio_s, "total_s": total, "audio_s": audio_s,
        "silence_s": late,
    }  # fmt: skip


def _decode(lm: Any, vocabulary: int, batch: int) -> float:
    """Tokens per second of all sequences together at a context of about 200 positions."""
    rng = np.random.default_rng(3)
    states = []
    for _ in range(batch):
        segments = [
            Segment("marker", np.array([0])),
            Segment("text", rng.integers(0, 500, _CONTEXT - _DECODED // 2 - 2)),
            Segment("marker", np.array([1])),
        ]
        states.append(lm.prefill(segments)[1])
    token = rng.integers(0, vocabulary, batch)
    lm.step(token, states)
    started = time.perf_counter()
    for _ in range(_DECODED):
        lm.step(token, states)
    return batch * _DECODED / (time.perf_counter() - started)


def _disk(folder: Path) -> int:
    """Bytes of the files that synthesis reads; enrolment models and torch weights are apart."""
    apart = ("weights.safetensors", "speech_tokenizer", "campplus", "speaker_encoder")
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files if not path.name.startswith(apart))


def _peak_memory() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
