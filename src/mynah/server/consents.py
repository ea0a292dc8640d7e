"""Recordings in which speakers agree to be imitated: files that outlive the server."""

from __future__ import annotations

import json
import re
import secrets
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from mynah.files import atomic_file
from mynah.server.errors import NotFoundError

_ID = re.compile(r"cons_[0-9a-f]{24}")


@dataclass(frozen=True)
class Consent:
    """What is known of one recording."""

    id: str
    name: str
    language: str
    created_at: int
    """In seconds since 1970."""

    def note(self) -> str:
        """The consent as it is kept with a voice."""
        day = datetime.fromtimestamp(self.created_at, UTC).date()
        return f"recording {self.id} of {day} ({self.language}): {self.name}"


class Consents:
    """A folder with a recording, as it was sent, and a description for each consent."""

    def __init__(self, folder: Path) -> None:
        """Make nothing before there is something to keep."""
        self._folder = folder

    @staticmethod
    def is_id(text: str) -> bool:
        """Whether a text is meant as the id of a consent."""
        return text.startswith("cons_")

    def add(self, name: str, language: str, recording: bytes) -> Consent:
        """Keep a recording.

        Raises:
            OutputError: if it cannot be written.
        """
        consent = Consent(f"cons_{secrets.token_hex(12)}", name, language, int(time.time()))
        self._folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self._folder / f"{consent.id}.recording") as file:
            file.write(recording)
        self._describe(consent)
        return consent

    def get(self, name: str) -> Consent:
        """Look a consent up by its id.

        Raises:
            NotFoundError: if there is none.
        """
        found = self._read(self._folder / f"{name}.json") if _ID.fullmatch(name) else None
        if found is None:
            raise NotFoundError("there is no such consent", hint="see GET /v1/audio/voice_consents")
        return found

    def list(self, after: str | None, limit: int) -> list[Consent]:
        """The newest consents first, those that come after the id ``after``.

        Raises:
            NotFoundError: if there is no consent of that id.
        """
        found = [self._read(path) for path in self._folder.glob("cons_*.json")]
        ordered = sorted(
            (consent for consent in found if consent is not None),
            key=lambda consent: (-consent.created_at, consent.id),
        )
        if after is not None:
            known = self.get(after)
            ids = [consent.id for consent in ordered]
            ordered = ordered[ids.index(known.id) + 1 :] if known.id in ids else []
        return ordered[:limit]

    def rename(self, name: str, label: str) -> Consent:
        """Give a consent another label.

        Raises:
            NotFoundError: if there is none of that id.
        """
        changed = replace(self.get(name), name=label)
        self._describe(changed)
        return changed

    def remove(self, name: str) -> None:
        """Delete a consent and its recording.

        Raises:
            NotFoundError: if there is none of that id.
        """
        consent = self.get(name)
        for suffix in ("json", "recording"):
            with suppress(FileNotFoundError):
                (self._folder / f"{consent.id}.{suffix}").unlink()

    def _describe(self, consent: Consent) -> None:
        with atomic_file(self._folder / f"{consent.id}.json") as file:
            file.write(json.dumps(asdict(consent)).encode())

    def _read(self, path: Path) -> Consent | None:
        try:
            return Consent(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
