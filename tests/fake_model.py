"""Speech models on the fake backend, and ways to break them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mynah.api import TTS
from mynah.backends.base import Backend
from mynah.backends.fake import fake_config, fake_voice, load_fake_backend, load_fake_encoders
from mynah.config import ModelConfig, SamplingConfig
from mynah.pipeline.model import SpeechModel, build_model
from mynah.pipeline.readers import build_reader
from mynah.pipeline.reading import (
    PromptKind,
    PromptText,
    TextInput,
    TextReader,
    Utterance,
    pause_after,
)
from mynah.pipeline.session import Session
from mynah.pipeline.voice_store import VoiceStore
from mynah.types import SynthesisRequest, TokenArray

TEXT = "Hello there, my friend. This is a second sentence, a little longer. And a third one?"
SHORT = "A few words."
END_OF_PROMPT = 299


class CharacterReader:
    """Every character is an id; utterances are sentences."""

    def check(self, text: str, language: str | None = None) -> None:
        """Accept everything."""

    def utterances(
        self,
        text: str,
        language: str | None = None,
        *,
        normalize: bool = True,
        split: bool = True,
    ) -> Iterator[Utterance]:
        parts = text.replace(". ", ". \0").split("\0") if split else [text]
        return (self.utterance(part) for part in parts)

    def utterance(self, text: str, continues: bool = False) -> Utterance:
        ids = self.ids(text if text.strip() else "")
        pauses = np.zeros(len(ids), np.bool_)
        return Utterance(text, ids, pauses, pause_after(text), continues)

    def open(self, language: str | None = None, *, normalize: bool = True) -> TextInput:
        return CharacterInput(self)

    def ids(self, text: str, language: str | None = None) -> TokenArray:
        return np.array([ord(character) % 300 for character in text], dtype=np.int64)

    def prompt_text(
        self, kind: PromptKind, text: str = "", language: str | None = None
    ) -> PromptText:
        """As the templates of CosyVoice 2: only an instruction has an end marker."""
        ids = self.ids(text)
        if kind != "instruction":
            return PromptText(ids)
        return PromptText(np.append(ids, END_OF_PROMPT), len(ids) + 1)


class CharacterInput:
    """Every word is certain when the next blank comes; a sentence begins a new utterance."""

    def __init__(self, reader: CharacterReader) -> None:
        self._reader = reader
        self._held = ""
        self._continues = False

    def feed(self, text: str) -> list[Utterance]:
        *words, self._held = (self._held + text).replace(" ", "\0 ").split("\0")
        return [self._read(word) for word in words if word]

    def finish(self) -> list[Utterance]:
        rest, self._held = self._held, ""
        parts = [self._read(rest)] if rest else []
        self._continues = False
        return parts

    def _read(self, word: str) -> Utterance:
        part = self._reader.utterance(word, self._continues)
        self._continues = not word.endswith(".")  # a word has its blank before it
        return part


def turns_config() -> ModelConfig:
    """Of a model that listens while it speaks; its reader has a word per part."""
    config = fake_config(pointer=False)
    lm = config.lm.model_copy(update={"text_speech_mix": (5, 15)})
    return config.model_copy(update={"lm": lm, "text_frontend": "qwen2-bpe"})


def fake_model(
    config: ModelConfig | None = None,
    *,
    change: Callable[[Backend], Backend] | None = None,
    left_chunks: int | None = None,
) -> SpeechModel:
    """A model on the fake backend; ``change`` may break its networks."""
    config = config or fake_config()
    backend = load_fake_backend(config)
    backend = backend if change is None else change(backend)
    return build_model(config, backend, reader_for(config), left_chunks=left_chunks)


def reader_for(config: ModelConfig) -> TextReader:
    """What reads text for a model that has no tokenizer."""
    if config.text_frontend == "phonemes":
        return build_reader(config, Path("unused"))
    return CharacterReader()


def limited(config: ModelConfig) -> ModelConfig:
    """The same model, cut off before it can end."""
    sampling = SamplingConfig(min_token_text_ratio=0.4, max_token_text_ratio=0.5)
    return config.model_copy(update={"sampling": sampling})


def session(model: SpeechModel, text: str = TEXT, voice: str = "fake", **values: Any) -> Session:
    """A session of the voice of that name."""
    chosen = fake_voice(model.config, voice)
    return Session(model, SynthesisRequest(text=text, voice=chosen, **values))


def fake_tts(folder: Path, model: SpeechModel | None = None) -> TTS:
    """A TTS with the voices ``fake`` and ``other`` in its store."""
    model = model or fake_model()
    store = VoiceStore(folder / "user", folder / "builtin", model.config.model_id)
    for name in ("fake", "other"):
        voice = fake_voice(model.config, name)
        VoiceStore(folder / "builtin", None, model.config.model_id).add(voice, overwrite=True)
    return TTS(model, store, lambda: load_fake_encoders(model.config))


class Wrapped:
    """A network with one method replaced: ``method(original, *args)``."""

    def __init__(self, network: Any, name: str, method: Callable[..., Any]) -> None:
        original = getattr(network, name)
        self._network = network
        setattr(self, name, lambda *args, **kwargs: method(original, *args, **kwargs))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


def breaking(part: str, name: str, method: Callable[..., Any]) -> Callable[[Backend], Backend]:
    """Change one method of one network of a backend."""

    def change(backend: Backend) -> Backend:
        parts: dict[str, Any] = {part: Wrapped(getattr(backend, part), name, method)}
        return replace(backend, **parts)

    return change


AHEAD = "mynah-ahead"
"""Name of the threads that work ahead."""


def overlapping(step: Callable[..., Any]) -> Callable[[Backend], Backend]:
    """Let tokens be made beside audio, which is not ready before one was: a fake is too quick.

    ``step(original, *args)`` stands for a call of the language model.
    """
    stepped = threading.Semaphore(0)

    def noted(original: Callable[..., Any], *args: Any) -> Any:
        if threading.current_thread().name == AHEAD:
            stepped.release()
        return step(original, *args)

    def encode(original: Callable[..., Any], *args: Any) -> Any:
        while stepped.acquire(blocking=False):
            pass  # steps of before
        while any(thread.name == AHEAD for thread in threading.enumerate()):
            if stepped.acquire(timeout=0.01):
                break
        return original(*args)

    def change(backend: Backend) -> Backend:
        changed = breaking("flow", "encode", encode)(breaking("lm", "step", noted)(backend))
        return replace(changed, overlaps_stages=True)

    return change


def with_nan(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a network and spoil its result."""
    return _spoiled(original(*args, **kwargs))


def _spoiled(result: Any) -> Any:
    if isinstance(result, tuple):
        return (_spoiled(result[0]), *result[1:])
    result = result.copy()
    result.reshape(-1)[-1] = np.nan
    return result


def stream_threads() -> list[threading.Thread]:
    """Threads that work for streams and are still there."""
    return [thread for thread in threading.enumerate() if thread.name == "mynah-engine"]
