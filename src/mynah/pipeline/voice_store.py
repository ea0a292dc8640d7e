"""The voices on this machine: those of a model folder and those a user made."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from mynah.errors import InvalidRequestError, OutputError, UnknownVoiceError
from mynah.files import atomic_file, output_error
from mynah.hub import ModelFolder, home
from mynah.pipeline.voices import (
    VOICE_SUFFIX,
    VoiceInfo,
    foreign_voice,
    load_voice,
    read_voice_info,
    save_voice,
)
from mynah.text.lexicons import UserLexicon
from mynah.types import Voice, check_voice_name

LEXICON_SUFFIX = ".lexicon"
"""Of a file with a voice's pronunciations, beside the voice's own (``mynah.text.lexicons``)."""

_REMADE_FOLDER = ".remade"
"""Folder among the user's voices for those of other models, made again for the one in use."""


@dataclass(frozen=True, slots=True)
class VoiceStore:
    """Two folders of voice files under one set of names; only the user's can be changed.

    Args:
        user_path: folder of the user's voices; made when the first one is added.
        builtin_path: folder of the voices that come with a model; None = none.
        model_id: only voices of this model, or such as carry their recording, can be loaded or
            added; None = any.
        remake: makes a voice of another model again for this one; None = cannot.
    """

    user_path: Path
    builtin_path: Path | None = None
    model_id: str | None = None
    remake: Callable[[Voice], Voice] | None = field(default=None, repr=False)

    @classmethod
    def for_model(cls, model: ModelFolder, model_id: str) -> Self:
        """Open the voices of a model: its own and the user's under ``MYNAH_HOME/voices``."""
        return cls(home() / "voices", model.voices_path, model_id)

    def names(self) -> list[str]:
        """Return all names, sorted, also those of voices that this model cannot use."""
        return sorted({path.stem for folder in self._folders() for path in _voice_files(folder)})

    def describe(self) -> list[VoiceInfo]:
        """Describe all voices, sorted by name; unusable ones have a ``problem``."""
        return [self.show(name) for name in self.names()]

    def show(self, name: str) -> VoiceInfo:
        """Describe one voice.

        Raises:
            UnknownVoiceError: suggesting the closest name.
        """
        path = self._find(name)
        return read_voice_info(path, builtin=self._is_builtin(path), model_id=self.model_id)

    def lexicon_path(self, name: str) -> Path | None:
        """Where the lexicon of a voice lies; None = it has none. The user's own comes first."""
        paths = (folder / f"{name}{LEXICON_SUFFIX}" for folder in self._folders())
        return next((path for path in paths if path.is_file()), None)

    def add_lexicon(self, name: str, source: str | os.PathLike[str]) -> Path:
        """Keep a lexicon for a voice, in place of an older one; return the file's path.

        Raises:
            UnknownVoiceError: suggesting the closest name.
            InvalidRequestError: if the lexicon cannot be read, or naming the line that is wrong.
            OutputError: if the folder cannot be written.
        """
        self._find(name)
        UserLexicon.load(Path(source))
        return _copy(Path(source), self.user_path / f"{name}{LEXICON_SUFFIX}")

    def load(self, name: str) -> Voice:
        """Load a voice; one of another model is made again from the recording that it carries.

        Raises:
            UnknownVoiceError: suggesting the closest name.
            InvalidRequestError: if the file is damaged.
            UnsupportedFeatureError: if it belongs to another model and carries no recording, or
                this model cannot make voices.
        """
        voice = load_voice(self._find(name))
        return self.adapt(voice if voice.name == name else replace(voice, name=name))

    def adapt(self, voice: Voice) -> Voice:
        """Return a voice for this store's model, made again where need be and kept for next time.

        Raises:
            UnsupportedFeatureError: if that is impossible.
        """
        if self.model_id is None or voice.model_id == self.model_id:
            return voice
        if voice.recording is None or self.remake is None:
            raise foreign_voice(voice.name, voice.model_id, self.model_id)
        path = self.user_path / _REMADE_FOLDER / f"{_digest(voice, self.model_id)}{VOICE_SUFFIX}"
        with suppress(InvalidRequestError):  # not there, or damaged
            kept = load_voice(path, model_id=self.model_id)
            return replace(kept, name=voice.name, recording=voice.recording)
        made = self.remake(voice)
        # A copy that cannot be kept is only made again next time.
        with suppress(OutputError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            save_voice(replace(made, recording=None), path)
        return made

    def add(self, voice: Voice, *, overwrite: bool = False) -> Path:
        """Keep a voice under its name; return the file's path.

        Raises:
            InvalidRequestError: if the name is taken, or the voice belongs to another model and
                carries no recording.
            OutputError: if the folder cannot be written.
        """
        if voice.recording is None and self.model_id not in (None, voice.model_id):
            raise InvalidRequestError(
                f"voice {voice.name!r} was made with the model {voice.model_id}, "
                f"this store is for {self.model_id}",
                hint=f"make it again from its recording with {self.model_id}",
            )
        target = self.user_path / f"{voice.name}{VOICE_SUFFIX}"
        existing = self._lookup(voice.name)
        if existing is not None and self._is_builtin(existing):
            raise InvalidRequestError(
                f"the voice {voice.name!r} comes with the model", hint="choose another name"
            )
        if existing is not None and not overwrite:
            raise InvalidRequestError(
                f"there already is a voice {voice.name!r}",
                hint="choose another name, remove it first, or overwrite it",
            )
        try:
            self.user_path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(self.user_path, error) from error
        return save_voice(voice, target)

    def remove(self, name: str) -> None:
        """Delete one of the user's voices, with its lexicon.

        Raises:
            UnknownVoiceError: suggesting the closest name.
            InvalidRequestError: if the voice comes with the model.
            OutputError: if the file cannot be deleted.
        """
        path = self._find(name)
        if self._is_builtin(path):
            raise InvalidRequestError(
                f"the voice {name!r} comes with the model and cannot be removed",
                hint="only voices that were added can be removed",
            )
        try:
            path.unlink()
            path.with_suffix(LEXICON_SUFFIX).unlink(missing_ok=True)
        except OSError as error:
            raise output_error(path, error) from error

    def export(self, name: str, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Copy a voice to a file, or into a folder under its name; return the file's path.

        Its lexicon, if it has one, is put beside it.

        Raises:
            UnknownVoiceError: suggesting the closest name.
            InvalidRequestError: if the file exists and ``overwrite`` is not given.
            OutputError: if it cannot be written.
        """
        voice = load_voice(self._find(name))
        target = Path(path)
        if target.is_dir():
            target = target / f"{name}{VOICE_SUFFIX}"
        if target.is_file() and not overwrite:
            raise InvalidRequestError(
                f"{target} already exists", hint="choose another name or overwrite it"
            )
        saved = save_voice(replace(voice, name=name), target)
        if (lexicon := self.lexicon_path(name)) is not None:
            _copy(lexicon, saved.with_suffix(LEXICON_SUFFIX))
        return saved

    def import_file(
        self, path: str | os.PathLike[str], name: str | None = None, *, overwrite: bool = False
    ) -> Voice:
        """Add a voice file from elsewhere; ``name`` = None keeps the name inside it.

        A lexicon that lies beside it comes along.

        Raises:
            UnknownVoiceError: if there is no such file.
            InvalidRequestError: if it is damaged, of another model, or the name is taken.
            OutputError: if the folder cannot be written.
        """
        voice = load_voice(path)
        if voice.recording is None and self.model_id not in (None, voice.model_id):
            raise foreign_voice(voice.name, voice.model_id, self.model_id or "")
        if name is not None:
            voice = replace(voice, name=check_voice_name(name))
        self.add(voice, overwrite=overwrite)
        lexicon = Path(path).with_suffix(LEXICON_SUFFIX)
        if lexicon.is_file():
            self.add_lexicon(voice.name, lexicon)
        return voice

    def _folders(self) -> list[Path]:
        return [path for path in (self.user_path, self.builtin_path) if path is not None]

    def _is_builtin(self, path: Path) -> bool:
        return path.parent != self.user_path

    def _lookup(self, name: str) -> Path | None:
        for folder in self._folders():
            path = folder / f"{name}{VOICE_SUFFIX}"
            if path.is_file():
                return path
        return None

    def _find(self, name: str) -> Path:
        check_voice_name(name)
        path = self._lookup(name)
        if path is not None:
            return path
        known = self.names()
        by_case = {known_name.lower(): known_name for known_name in known}
        close = difflib.get_close_matches(name.lower(), list(by_case), n=1)
        cure = f"did you mean {by_case[close[0]]}? " if close else ""
        listing = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        raise UnknownVoiceError(
            f"there is no voice {name!r}", hint=f"{cure}known voices: {listing or 'none'}"
        )


def _copy(source: Path, target: Path) -> Path:
    try:
        data = source.read_bytes()
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(target, error) from error
    with atomic_file(target) as file:
        file.write(data)
    return target


def _digest(voice: Voice, model_id: str) -> str:
    """Name of a file that depends on all that a voice is made again from."""
    assert voice.recording is not None  # adapt() asked
    digest = hashlib.blake2b(digest_size=16)
    for text in (model_id, voice.transcript, voice.language, voice.licence, voice.consent):
        digest.update(f"{len(text)}:{text}".encode())
    digest.update(voice.recording.samples.tobytes())
    return digest.hexdigest()


def _voice_files(folder: Path) -> list[Path]:
    try:
        return [
            path
            for path in folder.iterdir()
            if path.suffix == VOICE_SUFFIX and not path.name.startswith(".")
        ]
    except OSError:  # a folder that does not exist (yet) holds no voices
        return []
