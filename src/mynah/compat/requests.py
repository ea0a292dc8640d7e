"""From the arguments of an official call to a request of ``mynah.TTS``, and its audio back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

import numpy as np

from mynah.api import TTS
from mynah.compat.markers import open_text, strip_instruction, strip_transcript
from mynah.compat.options import warn
from mynah.compat.prompts import PromptLike, read_prompt
from mynah.compat.seeds import SEEDS
from mynah.compat.speakers import Speakers
from mynah.compat.tensors import load_torch, to_tensor
from mynah.engine.stream import SpeechStream
from mynah.errors import GenerationLimitError, InvalidRequestError, OverloadedError
from mynah.types import AudioChunk, FloatArray, Mode, Voice, check_speed

_EXTRAS = ("seed", "language", "prompt_speech_16k", "source_speech_16k")


class Output(TypedDict):
    """What every method yields."""

    tts_speech: Any
    """Float32 (1, num_samples) in [-1, 1] at ``sample_rate``."""


class SpeakExtras(TypedDict, total=False):
    """Keyword arguments beside the official ones, and older names of those."""

    seed: int | None
    """Of the random choices; the same seed gives the same samples. None = any."""
    language: str | None
    """BCP 47 code of the text; None = found from the text."""
    prompt_speech_16k: Any
    """Older name of ``prompt_wav``."""
    source_speech_16k: Any
    """Older name of ``source_wav``."""


class Requests:
    """Opens the requests of one model. It keeps nothing of them but how many there are."""

    def __init__(self, tts: TTS, speakers: Speakers, max_concurrent: int | None) -> None:
        """Allow so many requests at the same time; None = any number."""
        self._tts = tts
        self._speakers = speakers
        self._max_concurrent = max_concurrent
        self._places = None if max_concurrent is None else threading.Semaphore(max_concurrent)
        self._torch = load_torch()  # now: the first sound must not wait for it

    def speak(
        self,
        text: str | Iterable[str],
        mode: Mode,
        *,
        prompt: PromptLike = None,
        prompt_text: str | None = None,
        speaker: str = "",
        instruct_text: str | None = None,
        stream: bool,
        speed: float,
        text_frontend: bool,
        extras: SpeakExtras,
    ) -> Iterator[Output]:
        """Check the arguments and read the recording now; speak when iterated."""
        _check_extras(extras)
        templates = self._tts.config.templates
        voice = self._voice(mode, prompt, prompt_text, speaker, extras)
        options: dict[str, Any] = {
            "mode": self._engine_mode(mode),
            "speed": check_speed(speed),
            "seed": _seed(extras),
            "normalize": bool(text_frontend),
            "split": bool(text_frontend),
        }
        if instruct_text is not None:
            options["instruction"] = strip_instruction(instruct_text, templates)

        def begin() -> SpeechStream:
            language, words = open_text(text, templates)
            options["language"] = extras.get("language") or language
            return self._tts.stream(words, voice(), whole=not stream, in_time=stream, **options)

        return self._outputs(begin, stream=stream)

    def convert(
        self,
        source: PromptLike,
        prompt: PromptLike,
        *,
        stream: bool,
        speed: float,
        extras: SpeakExtras,
    ) -> Iterator[Output]:
        """Check the arguments and read both recordings now; convert when iterated."""
        _check_extras(extras)
        source = extras.get("source_speech_16k") if source is None else source
        audio = read_prompt(source, "source_wav")
        voice = self._voice("cross_lingual", prompt, None, "", extras)
        options: dict[str, Any] = {"speed": check_speed(speed), "seed": _seed(extras)}
        return self._outputs(
            lambda: self._tts.stream_convert(audio, voice(), whole=not stream, **options),
            stream=stream,
        )

    def _engine_mode(self, mode: Mode) -> Mode | None:
        """Let the engine choose where the language model never reads recordings (nano)."""
        reads = self._tts.config.lm.reads_prompt_speech
        return mode if reads or mode != "zero_shot" else None

    def _voice(
        self,
        mode: Mode,
        prompt: PromptLike,
        prompt_text: str | None,
        speaker: str,
        extras: SpeakExtras,
    ) -> Callable[[], Voice]:
        """Find who speaks; a new recording is read now but becomes a voice only when needed."""
        if speaker or mode == "sft":
            found = self._speakers.find(speaker)
            return lambda: found
        audio = read_prompt(extras.get("prompt_speech_16k") if prompt is None else prompt)
        words = ""
        if mode == "zero_shot":
            words = strip_transcript(prompt_text or "", self._tts.config.templates).strip()
            if not words:
                raise InvalidRequestError(
                    "prompt_text holds no words",
                    hint="pass the words of the recording, or call inference_cross_lingual",
                )
        return lambda: self._speakers.from_clip(audio, words)

    def _outputs(self, begin: Callable[[], SpeechStream], *, stream: bool) -> Iterator[Output]:
        with self._place(), begin() as chunks:
            for samples in pieces(_kept(chunks), stream=stream):
                yield {"tts_speech": to_tensor(samples, self._torch)}

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Take one of the places for requests that speak at the same time."""
        places = self._places
        if places is None:
            yield
            return
        # Waiting could be for ever: the one who waits may hold the generators it waits for.
        if not places.acquire(blocking=False):
            raise OverloadedError(
                f"{self._max_concurrent} requests are being spoken, max_concurrent allows no more",
                hint="finish or close one of the generators, or raise max_concurrent",
            )
        try:
            yield
        finally:
            places.release()


def _kept(chunks: Iterator[AudioChunk]) -> Iterator[AudioChunk]:
    """Pass chunks on; speech that did not end by itself is kept with a warning."""
    try:
        yield from chunks
    except GenerationLimitError as error:
        warn(str(error))


def pieces(chunks: Iterator[AudioChunk], *, stream: bool) -> Iterator[FloatArray]:
    """Samples of every chunk, or of every utterance; nothing empty."""
    held: list[FloatArray] = []
    utterance = 0
    for chunk in chunks:
        if not len(chunk.audio):
            continue
        if stream:
            yield chunk.audio.samples
            continue
        if held and chunk.utterance != utterance:
            yield np.concatenate(held)
            held = []
        utterance = chunk.utterance
        held.append(chunk.audio.samples)
    if held:
        yield np.concatenate(held)


def _seed(extras: SpeakExtras) -> int:
    seed = extras.get("seed")
    return SEEDS.draw() if seed is None else seed


def _check_extras(extras: SpeakExtras) -> None:
    for name in extras.keys() - set(_EXTRAS):
        raise InvalidRequestError(
            f"there is no argument {name!r}", hint=f"beside the official ones: {', '.join(_EXTRAS)}"
        )
