"""Finding the voice that somebody means, and making voices from recordings."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from mynah.api.options import VoiceLike
from mynah.audio.io import AudioSource, read_audio
from mynah.backends.base import SpeakerEncoder, SpeechTokenizer
from mynah.backends.timed import OnCall, timed_object
from mynah.config import ModelConfig
from mynah.engine.cache import Cache
from mynah.errors import InvalidRequestError, UnsupportedFeatureError
from mynah.files import expand_user
from mynah.pipeline.voice_store import LEXICON_SUFFIX, VoiceStore
from mynah.pipeline.voices import VOICE_SUFFIX, VoiceEncoder, load_voice
from mynah.types import Audio, Voice

Encoders: TypeAlias = tuple[SpeechTokenizer, SpeakerEncoder]

_CLIPS_KEPT = 8
_STAGE = "recording"


class VoiceFinder:
    """The voices of one model. Safe to share between threads."""

    def __init__(
        self,
        config: ModelConfig,
        store: VoiceStore,
        load_encoders: Callable[[], Encoders] | None,
        on_call: OnCall | None = None,
    ) -> None:
        """Read no file yet; see ``TTS`` for the arguments."""
        self._config, self._on_call = config, on_call
        self._load_encoders = load_encoders
        self._clips: Cache[Voice] = Cache(_CLIPS_KEPT)
        self._encoders: Cache[Encoders] = Cache(1)
        self.store = store
        if load_encoders is not None and store.remake is None:
            self.store = replace(store, remake=self._remake)

    def find(self, voice: VoiceLike) -> Voice:
        """Return the voice that is meant, made for this model.

        Raises:
            UnknownVoiceError: if there is none of that name.
            InvalidRequestError: if it cannot be used.
            PromptAudioError: if it is a recording that cannot become a voice.
        """
        if isinstance(voice, Voice):
            return self.store.adapt(voice)
        if voice is None:
            return self.store.load(self._default_voice())
        if not isinstance(voice, str | os.PathLike):
            raise InvalidRequestError(
                f"voice is {type(voice).__name__}", hint="pass a Voice, a name, or a path"
            )
        text = os.fspath(voice)
        if _is_name(voice):
            return self.store.load(text)
        path = expand_user(text)
        if path.suffix == VOICE_SUFFIX:
            return self.store.adapt(load_voice(path))
        key: Hashable = text
        with suppress(OSError, ValueError):
            status = path.stat()
            key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
        return self._clips.get(
            key,
            lambda: self._encoder().encode(
                read_audio(path), name="clip", source=text, keep_recording=False
            ),
        )

    def lexicon_path(self, voice: VoiceLike, found: Voice) -> Path | None:
        """Where the lexicon of a voice lies, as it was asked for and found; None = it has none."""
        if voice is None or isinstance(voice, Voice) or _is_name(voice):
            return self.store.lexicon_path(found.name)
        path = expand_user(voice).with_suffix(LEXICON_SUFFIX)
        return path if path.is_file() else None

    def create(
        self,
        audio: Audio | AudioSource,
        transcript: str,
        *,
        name: str,
        language: str,
        licence: str,
        consent: str,
        keep_recording: bool,
    ) -> Voice:
        """Make a voice; see ``TTS.create_voice``."""
        source = "the recording"
        if isinstance(audio, str | os.PathLike):
            source = os.fspath(audio)
        if not isinstance(audio, Audio):
            audio = read_audio(audio)
        return self._encoder().encode(
            audio,
            name=name,
            transcript=transcript,
            language=language,
            licence=licence,
            consent=consent,
            source=source,
            keep_recording=keep_recording,
        )

    def tokenizer(self) -> SpeechTokenizer:
        """Return the model's speech tokenizer.

        Raises:
            UnsupportedFeatureError: if the model comes without it.
        """
        tokenizer, _ = self._encoders.get("encoders", self._required_encoders)
        return timed_object(tokenizer, _STAGE, self._on_call)

    def clear(self) -> None:
        """Forget what was kept in memory."""
        self._clips.clear()
        self._encoders.clear()

    def _encoder(self) -> VoiceEncoder:
        tokenizer, speaker = self._encoders.get("encoders", self._required_encoders)
        encoder = VoiceEncoder(tokenizer, speaker, self._config)
        return timed_object(encoder, _STAGE, self._on_call)

    def _remake(self, voice: Voice) -> Voice:
        return self._encoder().remake(voice)

    def _required_encoders(self) -> Encoders:
        if self._load_encoders is None:
            raise UnsupportedFeatureError(
                "this model cannot make voices from recordings", hint="use one of its voices"
            )
        return self._load_encoders()

    def _default_voice(self) -> str:
        name = self._config.default_voice
        if name is not None:
            return name
        usable = [info for info in self.store.describe() if not info.problem]
        if not usable:
            raise InvalidRequestError(
                "no voice was given, and this model has none",
                hint="pass a recording as voice, or make one with TTS.create_voice",
            )
        # those that are ready before those of other models
        return min(usable, key=lambda info: info.model_id != self._config.model_id).name


def _is_name(voice: str | os.PathLike[str]) -> bool:
    """Whether it is the name of a voice: names hold neither separators nor dots."""
    return isinstance(voice, str) and not set(voice) & {"/", "\\", "."}
