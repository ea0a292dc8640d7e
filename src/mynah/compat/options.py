"""Options that people write for the official classes: what they do here, or what replaces them.

The same table for people is in docs/guides/coming-from-cosyvoice.md; a test compares the two.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mynah.errors import InvalidRequestError


class MynahCompatWarning(UserWarning):
    """Something that means another thing here than in the official module."""


@dataclass(frozen=True)
class Replaced:
    """An option without effect, because something else does its work."""

    neutral: tuple[Any, ...]
    """Values that ask for nothing; they are accepted in silence."""
    instead: str
    """What to do instead, or why nothing has to be done."""


REPLACED: dict[str, Replaced] = {
    "load_jit": Replaced((False,), "the networks are compiled once, when a model is converted"),
    "load_trt": Replaced(
        (False,), "TensorRT is not used; on an NVIDIA card pass device='cuda', backend='torch'"
    ),
    "load_vllm": Replaced(
        (False,), "vLLM is not used; requests made at the same time share calls by themselves"
    ),
    "fp16": Replaced(
        (False,),
        "the precision is chosen when a model is converted: `mynah convert FOLDER --variant "
        "float16`, then load the result",
    ),
    "trt_concurrent": Replaced((1,), "one model serves any number of threads as it is"),
    "max_batch_size": Replaced(
        (1,), "call from many threads: the engine decides how many requests share a network call"
    ),
    "buffer_size": Replaced((), "a stream is made at most 8 chunks ahead of its listener"),
    "enable_kv_cache": Replaced((True,), "keys and values are always kept"),
    "use_kv_cache": Replaced((True,), "keys and values are always kept"),
    "use_flow_cache": Replaced((True,), "a stream never computes a frame twice"),
}
"""Accepted with a warning unless the value is neutral; None is always neutral."""

PASSED_ON = ("device", "backend", "threads", "left_chunks", "download")
"""Options of ``mynah.TTS.load`` that are handed to it."""
CHECKED = ("chunk_size", "num_decoding_left_chunks", "max_concurrent")
KNOWN = (*REPLACED, *PASSED_ON, *CHECKED)


@dataclass(frozen=True)
class Options:
    """What the options of a constructor come to."""

    load: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of ``mynah.TTS.load``."""
    max_concurrent: int | None = None
    """Requests that may speak at the same time; None = any number."""
    chunk_size: int | None = None
    """Tokens per chunk that were asked for; None = the model's."""


def read_options(values: Mapping[str, Any]) -> Options:
    """Understand the options of a constructor.

    Raises:
        InvalidRequestError: for an unknown option, or a value that is out of range.
    """
    for name in values.keys() - set(KNOWN):
        close = difflib.get_close_matches(name, KNOWN, n=1)
        raise InvalidRequestError(
            f"there is no option {name!r}",
            hint=f"did you mean {close[0]}?" if close else f"known options: {', '.join(KNOWN)}",
        )
    for name, replaced in REPLACED.items():
        value = values.get(name)
        if value is not None and value not in replaced.neutral:
            warn(f"{name}={value!r} has no effect: {replaced.instead}")
    load = {name: values[name] for name in PASSED_ON if values.get(name) is not None}
    left_chunks = values.get("num_decoding_left_chunks")
    if left_chunks is not None and left_chunks != -1:
        load["left_chunks"] = _count("num_decoding_left_chunks", left_chunks, " or -1 for all")
    sizes: dict[str, int | None] = {
        name: None if values.get(name) is None else _count(name, values[name])
        for name in ("max_concurrent", "chunk_size")
    }
    return Options(load, sizes["max_concurrent"], sizes["chunk_size"])


def check_chunk_size(wanted: int | None, actual: int) -> None:
    """Refuse a chunk size that the weights were not trained with.

    Raises:
        InvalidRequestError: naming the one that they were trained with.
    """
    if wanted not in (None, actual):
        raise InvalidRequestError(
            f"chunk_size={wanted} is not possible: this model's chunks have {actual} tokens",
            hint="leave chunk_size out; its masks were trained with that size",
        )


def warn(message: str) -> None:
    """Warn where the script called us."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, MynahCompatWarning, stacklevel=level)


def _count(name: str, value: Any, also: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidRequestError(
            f"{name}={value!r} is out of range", hint=f"pass a whole number from 1{also}"
        )
    return value
