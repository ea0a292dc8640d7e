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


def has_torch() -> bool:
    """Whether torch is installed; it is not imported to find out."""
    return find_spec("torch") is not None


def to_tensor(samples: FloatArray, *, torch: bool) -> Any:
    """Return samples (N,) as ``torch.Tensor`` (1, N), or as ``SpeechArray`` (1, N) without torch.

    The memory is the result's own.
    """
    row = np.array(samples, dtype=np.float32)[None, :]
    if torch:
        return import_module("torch").from_numpy(row)
    return row.view(SpeechArray)


def to_array(value: Any) -> npt.NDArray[Any] | None:
    """Return a NumPy array or torch tensor as an array; None for anything else."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        return np.asarray(value.detach().cpu().numpy())
    return None
