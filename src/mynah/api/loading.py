"""From a model folder to what ``TTS`` is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from mynah.api.voices import Encoders
from mynah.backends.registry import load_backend, load_encoders, load_noise
from mynah.backends.timed import OnCall, timed
from mynah.hub import MANIFEST_NAME, ModelFolder, home
from mynah.pipeline.model import SpeechModel, build_model
from mynah.pipeline.quality import find_quality
from mynah.pipeline.readers import build_reader
from mynah.pipeline.timed_reader import TimedReader
from mynah.pipeline.voice_store import VoiceStore


def load_parts(
    folder: ModelFolder,
    *,
    device: str,
    backend: str,
    threads: int | None,
    left_chunks: int | None,
    quality: str = "exact",
    on_call: OnCall | None = None,
) -> tuple[SpeechModel, VoiceStore, Callable[[], Encoders], Path]:
    """Load a model that is on this machine.

    Returns:
        the model, its voices, what loads its encoders, and a folder where voices that are ready
        for it, loaded like this, can be kept.

    Raises:
        ModelFormatError: if a file of it is missing or damaged.
        BackendUnavailableError: if the backend or device is missing.
        InvalidRequestError: for an unknown backend or quality, or a number out of range.
    """
    config, path = find_quality(quality).apply(folder.config()), folder.path
    networks = load_backend(path, config, device=device, backend=backend, threads=threads)
    reader = build_reader(config, path)
    if on_call is not None:
        networks, reader = timed(networks, on_call), TimedReader(reader, on_call)
    model = build_model(
        config,
        networks,
        reader,
        noise=load_noise(path),
        left_chunks=left_chunks,
    )
    store = VoiceStore.for_model(folder, config.model_id)
    manner = f"{networks.name} {networks.device} {quality} {left_chunks}".encode()
    digest = hashlib.blake2b((path / MANIFEST_NAME).read_bytes() + manner, digest_size=8)
    cache = home() / "cache" / "prepared" / digest.hexdigest()
    return model, store, lambda: load_encoders(path, threads), cache
