"""A voice's flow state on disk: read once, mapped at every later start, shared by all requests.

The file is a cache: it belongs to one model in one variant and one backend, and may be deleted.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from mynah.backends.base import StorableFlowNetwork, StoredArray
from mynah.backends.onnx.tensors import map_tensors
from mynah.config import FlowConfig
from mynah.errors import ModelFormatError
from mynah.pipeline.flow import FlowStageState, guided_states

_ENCODER, _VELOCITY = "encoder/", "velocity.{}/"
_START = "start/"
_STAGE = "stage/"


def save_prefix(network: StorableFlowNetwork, state: FlowStageState, path: Path) -> None:
    """Write what ``prefix_state`` computed; the file is complete or not there.

    Raises:
        OSError: if it cannot be written.
    """
    packed = {_ENCODER: network.pack(state.encoder)}
    packed |= {_VELOCITY.format(i): network.pack(one) for i, one in enumerate(state.velocity)}
    # Held until all is written: a backend may give the memory of what nobody knows to others.
    start = None if state.start is None else state.start.state(state.committed)
    if start is not None:
        packed[_START] = network.pack(start)
    counts = np.array([state.committed, state.prompt_tokens, *state.pending], np.float32)
    packed[_STAGE] = {"cond": state.cond, "counts": counts}
    arrays = {
        prefix + key: np.ascontiguousarray(value)
        for prefix, part in packed.items()
        for key, value in part.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    part = Path(name)
    try:
        save_file(arrays, part)
        del start
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def load_prefix(
    network: StorableFlowNetwork, config: FlowConfig, fresh: FlowStageState, path: Path
) -> FlowStageState:
    """State of ``save_prefix``, without reading the file: its pages come when they are attended to.

    Args:
        network: of the same model, variant and backend.
        config: of the same model.
        fresh: state of a prompt without tokens, which gives speaker, noise and chunk grid.
        path: of the file.

    Raises:
        ModelNotFoundError: if there is no such file.
        ModelFormatError: if it is damaged, or of another model.
    """
    tensors = map_tensors(path)
    stage = _part(tensors, _STAGE)
    start = _part(tensors, _START)
    is_whole = set(stage) == {"cond", "counts"} and len(stage["counts"]) >= 2
    if not is_whole or bool(start) != (fresh.start is not None):
        raise ModelFormatError(
            f"{path} holds no flow state", hint="delete it; it is computed again"
        )
    committed, prompt, *pending = stage["counts"].astype(np.int64).tolist()
    guided = guided_states(config, starts_alone=bool(start))
    velocity = [
        network.unpack_velocity(_part(tensors, _VELOCITY.format(i)), guided=both)
        for i, both in enumerate(guided)
    ]
    return replace(
        fresh,
        encoder=network.unpack_encoder(_part(tensors, _ENCODER)),
        velocity=velocity,
        start=fresh.start
        and fresh.start.restored(committed, network.unpack_velocity(start, guided=False)),
        cond=np.array(stage["cond"], np.float32),
        pending=np.array(pending, dtype=np.int64),
        prompt_tokens=prompt,
        committed=committed,
    )


def _part(tensors: Mapping[str, StoredArray], prefix: str) -> dict[str, StoredArray]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
