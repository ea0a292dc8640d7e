"""Speaks many times in one process and prints, as JSON, what memory stays in use after each part.

    python speaks_often.py MODEL NUM_UTTERANCES NUM_CANCELLED

A process of its own: nothing that ran before lends it memory, or hides what it keeps.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
from pathlib import Path

from mynah import TTS
from mynah.engine.stream import SpeechStream
from mynah.pipeline.session import Session

TEXT = "Good to know."
STATM = Path("/proc/self/statm")
PAGE_BYTES = 4096


def main() -> None:
    """Warm up with a part of everything, then measure."""
    model, num_utterances, num_cancelled = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with TTS.load(model, threads=1) as tts:
        speak(tts, num_utterances // 2)
        cancel(tts, num_cancelled // 4)
        resident = [now()]
        speak(tts, num_utterances)
        resident.append(now())
        cancel(tts, num_cancelled)
        resident.append(now())
        sessions = sum(isinstance(one, Session) for one in gc.get_objects())
    names = [thread.name for thread in threading.enumerate()]
    threads = [name for name in names if name.startswith("mynah")]
    json.dump({"resident": resident, "sessions": sessions, "threads": threads}, sys.stdout)


def speak(tts: TTS, count: int) -> None:
    """Utterances from their first to their last sample, one after the other, of both voices."""
    for seed in range(count):
        voice = ("kathleen", "lj")[seed % 2]
        assert sum(len(chunk.audio) for chunk in tts.stream(TEXT, voice, seed=seed % 5))


def cancel(tts: TTS, count: int) -> None:
    """Utterances that nobody listens to: after the first chunk, before it, and at once."""
    for seed in range(count):
        stream: SpeechStream = tts.stream(TEXT, ("kathleen", "lj")[seed // 4 % 2], seed=seed % 5)
        if seed % 4 == 0:
            next(iter(stream))
        stream.close()


def now() -> int:
    """Resident bytes, nothing being made."""
    gc.collect()
    return int(STATM.read_text(encoding="ascii").split()[1]) * PAGE_BYTES


if __name__ == "__main__":
    main()
