"""Jobs on disk: a SQLite table that survives the server."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from mynah.server.errors import ConflictError

State = Literal["queued", "running", "done", "failed", "cancelled"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    batch TEXT NOT NULL,
    state TEXT NOT NULL,
    created REAL NOT NULL,
    ended REAL,
    parameters TEXT NOT NULL,
    encoding TEXT NOT NULL,
    characters INTEGER NOT NULL,
    audio_s REAL NOT NULL,
    seed INTEGER,
    error TEXT NOT NULL,
    message TEXT NOT NULL,
    solution TEXT NOT NULL,
    crashes INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS by_state ON jobs (state, created);
"""


@dataclass(frozen=True)
class Job:
    """One row; times in seconds since 1970."""

    id: str
    owner: str
    """Digest of the API key that it came with; "" = none."""
    batch: str
    state: State
    created: float
    ended: float | None
    parameters: str
    """Of the speech, as JSON; "" once the job has ended."""
    encoding: str
    """As JSON."""
    characters: int
    audio_s: float = 0.0
    seed: int | None = None
    error: str = ""
    message: str = ""
    solution: str = ""
    crashes: int = 0
    """How often a server ended in the middle of it, without having been told to."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in ("done", "failed", "cancelled")


_MOST_CRASHES = 3
"""Then a job is taken for what ended the servers."""
_COLUMNS = tuple(field.name for field in fields(Job))


class JobStore:
    """The table. Safe to share between threads; every call is short."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Open or make the file; what ran when the last server ended waits again.

        Raises:
            ConflictError: if a server that lives works through it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._claim = _claimed(path.with_suffix(".claim"))
        self._clock = clock
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA secure_delete=ON")  # of texts nothing is left
        self._database.executescript(_SCHEMA)
        self._recover()

    def now(self) -> float:
        """Seconds since 1970."""
        return self._clock()

    def add(self, jobs: Sequence[Job]) -> None:
        """Keep new jobs, all or none."""
        row = f"INSERT INTO jobs VALUES ({', '.join('?' * len(_COLUMNS))})"
        with self._lock, self._database:
            self._database.execute("BEGIN")
            self._database.executemany(
                row, [[getattr(job, name) for name in _COLUMNS] for job in jobs]
            )

    def get(self, name: str) -> Job | None:
        """One job; None = there is none."""
        found = self._jobs("WHERE id = ?", name)
        return found[0] if found else None

    def of(self, owner: str, batch: str | None, limit: int) -> list[Job]:
        """The newest jobs of an owner, maybe of one batch only."""
        if batch is None:
            return self._jobs("WHERE owner = ? ORDER BY created DESC, id LIMIT ?", owner, limit)
        order = "WHERE owner = ? AND batch = ? ORDER BY created, id LIMIT ?"
        return self._jobs(order, owner, batch, limit)

    def waiting(self) -> int:
        """Number of jobs that have not ended."""
        rows = self._run("SELECT COUNT(*) FROM jobs WHERE state IN ('queued', 'running')")
        return int(rows[0][0])

    def take(self) -> Job | None:
        """Begin the oldest job that waits; None = none does."""
        found = self._jobs(
            "WHERE id = (SELECT id FROM jobs WHERE state = 'queued' ORDER BY created, id LIMIT 1)"
        )
        if not found:
            return None
        self._run("UPDATE jobs SET state = 'running' WHERE id = ?", found[0].id)
        return found[0]

    def put_back(self, name: str) -> None:
        """Let a job wait that was begun."""
        self._run("UPDATE jobs SET state = 'queued' WHERE id = ? AND state = 'running'", name)

    def end(self, name: str, state: State, **facts: Any) -> bool:
        """End a job, unless it has ended already; its text is forgotten. False = it had."""
        values = {"state": state, "ended": self._clock(), "parameters": "", **facts}
        changes = ", ".join(f"{column} = ?" for column in values)
        rows = self._run(
            f"UPDATE jobs SET {changes} WHERE id = ? AND state IN ('queued', 'running') "
            "RETURNING id",
            *values.values(),
            name,
        )
        return bool(rows)

    def remove(self, name: str) -> None:
        """Forget a job."""
        self._run("DELETE FROM jobs WHERE id = ?", name)

    def ended_before(self, moment: float) -> list[str]:
        """Ids of the jobs that ended before a moment."""
        return [row[0] for row in self._run("SELECT id FROM jobs WHERE ended < ?", moment)]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()
            self._claim.close()

    def _recover(self) -> None:
        """Let wait what ran when the last server ended, unless that happens again and again."""
        if "crashes" not in [row[1] for row in self._run("PRAGMA table_info(jobs)")]:
            # of an earlier version
            self._run("ALTER TABLE jobs ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0")
        self._run("UPDATE jobs SET crashes = crashes + 1 WHERE state = 'running'")
        for (name,) in self._run(
            "SELECT id FROM jobs WHERE state = 'running' AND crashes >= ?", _MOST_CRASHES
        ):
            self.end(
                name,
                "failed",
                error="crashed",
                message=f"the server ended {_MOST_CRASHES} times while it spoke this",
                solution="see the server's log, and whether its memory is enough; send it in parts",
            )
        self._run("UPDATE jobs SET state = 'queued' WHERE state = 'running'")

    def _jobs(self, condition: str, *values: Any) -> list[Job]:
        rows = self._run(f"SELECT {', '.join(_COLUMNS)} FROM jobs {condition}", *values)
        return [Job(*row) for row in rows]

    def _run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()


def _claimed(path: Path) -> sqlite3.Connection:
    """Make a folder ours until this is closed or the process ends, however it does.

    A lock of SQLite's, because that works on every system.

    Raises:
        ConflictError: if it is another's.
    """
    claim = sqlite3.connect(path, timeout=0, check_same_thread=False, isolation_level=None)
    try:
        claim.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        claim.close()
        raise ConflictError(
            "another server works through the jobs of this server's data folder",
            hint="stop that one, or give this one a folder of its own: --data-dir",
        ) from error
    return claim
