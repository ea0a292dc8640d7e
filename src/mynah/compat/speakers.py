"""Speakers by the ids that scripts give them: the model's, the user's, and those added just now."""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import replace

from mynah.api import TTS
from mynah.engine.cache import Cache
from mynah.errors import InvalidRequestError, UnknownVoiceError
from mynah.types import Audio, Voice

_CLIPS_KEPT = 16
_NO_NAME_CHARACTER = re.compile(r"[^\w-]+")


class Speakers:
    """What the official ``spk2info`` is: voices by id, kept on disk only when asked.

    Saved speakers are ordinary voices in ``MYNAH_HOME/voices``, so the command line and every
    other program find them too.
    """

    def __init__(self, tts: TTS) -> None:
        """Begin with the voices that the model and the user have."""
        self._tts = tts
        self._lock = threading.Lock()
        self._added: dict[str, Voice] = {}
        self._clips: Cache[Voice] = Cache(_CLIPS_KEPT)

    def ids(self) -> list[str]:
        """Ids of all speakers that this model can use; those that came with it are first."""
        with self._lock:
            added = list(self._added)
        infos = [info for info in self._tts.voices.describe() if not info.problem]
        infos.sort(key=lambda info: not info.builtin)
        return list(dict.fromkeys([*(info.name for info in infos), *added]))

    def add(self, speaker: str, voice: Voice) -> None:
        """Keep a voice under an id until the program ends, replacing an older one.

        Raises:
            InvalidRequestError: if the id is empty, or belongs to a voice of the model.
        """
        name = voice_name(speaker)
        if any(info.builtin and info.name == name for info in self._tts.voices.describe()):
            raise InvalidRequestError(
                f"the speaker {speaker!r} comes with the model", hint="choose another id"
            )
        with self._lock:
            self._added[speaker] = replace(voice, name=name)

    def save(self) -> None:
        """Write the added speakers to disk.

        Raises:
            OutputError: if the folder cannot be written.
        """
        with self._lock:
            added = list(self._added.values())
        for voice in added:
            self._tts.voices.add(voice, overwrite=True)

    def find(self, speaker: str) -> Voice:
        """Return a speaker's voice.

        Raises:
            UnknownVoiceError: listing the ids that there are.
        """
        with self._lock:
            voice = self._added.get(speaker)
        if voice is not None:
            return voice
        try:
            return self._tts.voices.load(voice_name(speaker))
        except UnknownVoiceError as error:
            known = ", ".join(self.ids()) or "none; add one with add_zero_shot_spk"
            raise UnknownVoiceError(
                f"there is no speaker {speaker!r}", hint=f"known speakers: {known}"
            ) from error

    def from_clip(self, audio: Audio, transcript: str) -> Voice:
        """Make a voice from a recording; the last few are remembered."""
        key = (
            hashlib.blake2b(audio.samples.tobytes(), digest_size=16).digest(),
            audio.sample_rate,
            transcript,
        )
        return self._clips.get(
            key, lambda: self._tts.create_voice(audio, transcript, name="prompt")
        )


def voice_name(speaker: str) -> str:
    """Name under which a speaker is saved: its id, other characters replaced by ``_``.

    Raises:
        InvalidRequestError: if the id is empty.
    """
    name = _NO_NAME_CHARACTER.sub("_", speaker).strip("_-") if isinstance(speaker, str) else ""
    if not name:
        raise InvalidRequestError(
            f"{speaker!r} is no id of a speaker", hint="use letters and digits, for example 'anna'"
        )
    return name
