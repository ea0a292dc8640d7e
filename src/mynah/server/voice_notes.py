"""What a voice is called and what is said about it, beside its file; ids stay when names change."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mynah.errors import InvalidRequestError
from mynah.files import atomic_file

_LONGEST = 2000
_MOST_LABELS = 20


@dataclass(frozen=True)
class VoiceNote:
    """One voice's."""

    name: str
    """For people; the voice's id is the name of its file."""
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that it is short.

        Raises:
            InvalidRequestError: otherwise.
        """
        texts = [self.name, self.description, *self.labels, *self.labels.values()]
        if any(len(text) > _LONGEST for text in texts) or len(self.labels) > _MOST_LABELS:
            raise InvalidRequestError(
                "name, description or labels are too long",
                hint=f"at most {_LONGEST} characters each, and {_MOST_LABELS} labels",
            )


class VoiceNotes:
    """A file with the notes of all voices. Safe to share between threads."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet."""
        self._path = path
        self._lock = threading.Lock()

    def all(self) -> dict[str, VoiceNote]:
        """Return every note by voice; a file that is not there or damaged holds none."""
        try:
            found = json.loads(self._path.read_text("utf-8"))
            return {name: VoiceNote(**note) for name, note in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def put(self, voice: str, note: VoiceNote | None) -> None:
        """Keep a note; None removes it.

        Raises:
            OutputError: if the file cannot be written.
        """
        with self._lock:
            notes = self.all()
            notes.pop(voice, None)
            if note is not None:
                notes[voice] = note
            self._path.parent.mkdir(parents=True, exist_ok=True)
            data = {name: asdict(one) for name, one in notes.items()}
            with atomic_file(self._path) as file:
                file.write(json.dumps(data, ensure_ascii=False).encode())
