"""Voices made ready for one model: in memory, and on disk where making them takes long."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from mynah.backends.timed import OnCall, timed_call
from mynah.engine.cache import Cache, CacheStats
from mynah.errors import ModelError
from mynah.pipeline.model import PreparedVoice, SpeechModel, flow_prompt, prepare_voice
from mynah.types import Voice

_KEPT = 8
_WORTH_KEEPING_S = 0.3
"""A voice that is ready sooner is not written down: files are large, up to 200 MB."""
_SUFFIX = ".prefix"

_log = logging.getLogger(__name__)


class PreparedVoices:
    """The last voices used. Safe to share between threads."""

    def __init__(self, folder: Path | None = None, on_call: OnCall | None = None) -> None:
        """Begin with those in ``folder``, which belongs to one model, variant and backend.

        None = nothing is kept on disk. ``on_call`` is told how long each voice takes that was not
        ready.
        """
        self._cache: Cache[PreparedVoice] = Cache(_KEPT)
        self._folder = folder
        self._timed_prepare = timed_call(self._prepare, "voice", on_call)

    def get(self, model: SpeechModel, voice: Voice, *, reads_recording: bool) -> PreparedVoice:
        """Prepare a voice, or return it as it was prepared before; see ``prepare_voice``."""
        key = _fingerprint(voice)
        return self._cache.get(
            (key, reads_recording),
            lambda: self._timed_prepare(model, voice, key.hex(), reads_recording=reads_recording),
        )

    def stats(self) -> CacheStats:
        """How often a voice was ready."""
        return self._cache.stats()

    def clear(self) -> None:
        """Forget them; files stay."""
        self._cache.clear()

    def _prepare(
        self, model: SpeechModel, voice: Voice, name: str, *, reads_recording: bool
    ) -> PreparedVoice:
        if self._folder is None or not reads_recording or not len(voice.speech_tokens):
            return prepare_voice(model, voice, reads_recording=reads_recording)
        path = self._folder / f"{name}{_SUFFIX}"
        with suppress(ModelError):  # not there yet, or damaged: it is made again
            state = model.flow.load(flow_prompt(voice), path)
            with suppress(OSError):
                os.utime(path)
            return PreparedVoice(voice, state)
        started = time.perf_counter()
        prepared = prepare_voice(model, voice)
        if time.perf_counter() - started > _WORTH_KEEPING_S:
            threading.Thread(
                target=_keep, args=(model, prepared, path), name="mynah-keep", daemon=True
            ).start()
        return prepared


def _keep(model: SpeechModel, prepared: PreparedVoice, path: Path) -> None:
    """Write a voice down beside the request that needed it; drop the oldest ones."""
    try:
        if not model.flow.save(prepared.flow, path):
            return
        files = sorted(path.parent.glob(f"*{_SUFFIX}"), key=lambda file: file.stat().st_mtime)
        for file in files[:-_KEPT]:
            file.unlink(missing_ok=True)
    except OSError as error:  # only a cache: a full or read-only disk stops nobody
        _log.warning("the prepared voice %s cannot be kept: %s", path.name, error)


def _fingerprint(voice: Voice) -> bytes:
    """Digest of what the flow reads of a voice."""
    digest = hashlib.blake2b(voice.model_id.encode(), digest_size=16)
    for array in (voice.speech_tokens, voice.mel, voice.speaker_embedding):
        digest.update(repr(array.shape).encode())
        digest.update(array.tobytes())
    return digest.digest()
