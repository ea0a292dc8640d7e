"""What ``tts_speech`` is: a torch tensor where torch is installed, else an array that passes."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Self

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


class SpeechArray(np.ndarray[Any, np.dtype[np.float32]]):
    """Float32 (1, num_samples) that answers the calls people make on the official tensor."""

    def numpy(self) -> FloatArray:
        """Return the plain array."""
        return self.view(np.ndarray)

    def cpu(self) -> Self:
        """Return the array itself: it never is anywhere else."""
        return self

    def detach(self) -> Self:
        """Return the array itself: it has no gradient."""
        return self


def load_torch() -> Any | None:
    """Return torch, imported now, or None where it is not installed."""
    return None if find_spec("torch") is None else import_module("torch")


def to_tensor(samples: FloatArray, torch: Any | None) -> Any:
    """Return samples (N,) as ``torch.Tensor`` (1, N), or as ``SpeechArray`` (1, N) without torch.

    The memory is the result's own.
    """
    row = np.array(samples, dtype=np.float32)[None, :]
    return row.view(SpeechArray) if torch is None else torch.from_numpy(row)


def to_array(value: Any) -> npt.NDArray[Any] | None:
    """Return a NumPy array or torch tensor as an array; None for anything else."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        return np.asarray(value.detach().cpu().numpy())
    return None
