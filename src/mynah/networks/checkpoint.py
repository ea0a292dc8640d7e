"""Weights on disk and in modules: official key names to ours, strictly both ways.

A stage's key table says which official tensor is which of our parameters. Nothing is skipped in
silence: a tensor that is missing, left over or of a wrong shape is an error that names it.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mynah.errors import ModelFormatError, ModelNotFoundError

_MAX_LISTED = 8

# (magnitude, direction) suffixes of a weight-normed tensor: current torch, and before 2.0.
_WEIGHT_NORM_SPELLINGS = (
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
    (".weight_g", ".weight_v"),
)


@dataclass(frozen=True)
class KeyTable:
    """Official key -> our key, for one stage; weight-normed weights appear folded, as ``.weight``.

    ``duplicates`` are official tensors that repeat another one (tied weights): duplicate -> the
    key it equals. They may be absent, are not loaded, and are written again on the way back.
    """

    names: Mapping[str, str]
    duplicates: Mapping[str, str]

    def to_ours(self, official: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename a whole official state dict.

        Raises:
            ModelFormatError: naming the tensors that are missing or unexpected.
        """
        folded = fold_weight_norm(official)
        present = set(folded) - set(self.duplicates)
        _check_keys(present, self.names.keys(), "checkpoint")
        return {ours: folded[theirs] for theirs, ours in self.names.items()}

    def to_official(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename one of our state dicts back.

        Raises:
            ModelFormatError: naming the tensors that are missing or unexpected.
        """
        _check_keys(ours.keys(), self.names.values(), "state dict")
        renamed = {theirs: ours[name] for theirs, name in self.names.items()}
        return renamed | {key: renamed[source] for key, source in self.duplicates.items()}


def fold_weight_norm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace each (magnitude, direction) pair by the weight it stands for, in any spelling.

    weight = g * v / ||v||, the norm over all axes but the first.
    """
    folded = dict(tensors)
    for g_suffix, v_suffix in _WEIGHT_NORM_SPELLINGS:
        for g_key in [key for key in folded if key.endswith(g_suffix)]:
            stem = g_key.removesuffix(g_suffix)
            if stem + v_suffix not in folded:
                raise ModelFormatError(f"weight norm of {stem} is incomplete: no {stem + v_suffix}")
            g, v = folded.pop(g_key), folded.pop(stem + v_suffix)
            norm = v.flatten(1).norm(dim=1).reshape(-1, *[1] * (v.dim() - 1))
            folded[stem + ".weight"] = g.reshape(norm.shape) * v / norm
    return folded


def load_strict(
    module: nn.Module, tensors: Mapping[str, Tensor], source: str, *, assign: bool = False
) -> None:
    """Copy tensors into a module; every tensor of both sides must match.

    ``assign`` uses the tensors themselves, which may be parts of a mapped file, and copies nothing.

    Raises:
        ModelFormatError: naming missing or unexpected tensors, or those of a wrong shape.
    """
    own = module.state_dict()
    _check_keys(tensors.keys(), own.keys(), source)
    wrong = [
        f"{key} is {tuple(tensors[key].shape)}, expected {tuple(value.shape)}"
        for key, value in own.items()
        if tensors[key].shape != value.shape
    ]
    if wrong:
        raise ModelFormatError(f"wrong shapes in {source}: {_listed(wrong)}")
    # A module may keep a part in double precision; where types agree nothing is copied.
    typed = {key: value.to(own[key].dtype) for key, value in tensors.items()}
    module.load_state_dict(typed, assign=assign)


def read_tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Read a flat state dict from ``.safetensors`` or ``.pt``; keep and strip ``prefix``.

    ``.pt`` files are read with ``weights_only=True``: they cannot run code.

    Raises:
        ModelNotFoundError: if there is no such file.
        ModelFormatError: if it cannot be read, or holds something else than tensors.
    """
    if not path.is_file():
        raise ModelNotFoundError(
            f"the weights {path} are missing", hint="download or convert the model again"
        )
    if path.suffix == ".safetensors":
        tensors = _read_safetensors(path, prefix)
    else:
        tensors = {k: v for k, v in _read_pickle(path).items() if k.startswith(prefix)}
    return {key.removeprefix(prefix): value for key, value in tensors.items()}


def _read_safetensors(path: Path, prefix: str) -> dict[str, Tensor]:
    try:
        with safe_open(str(path), framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}  # noqa: SIM118 - safe_open is no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (
            RuntimeError
        ):  # files of old torch versions cannot be mapped; damaged ones fail again
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(loaded, dict):
        raise ModelFormatError(f"{path} holds no state dict but a {type(loaded).__name__}")
    # Training checkpoints of the official code carry counters beside the tensors.
    return {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}


def _unreadable(path: Path, error: Exception) -> ModelFormatError:
    return ModelFormatError(
        f"cannot read the weights {path}: {error}",
        hint="the file is damaged or incomplete; download the model again",
    )


def _check_keys(given: Iterable[str], expected: Iterable[str], source: str) -> None:
    given_set, expected_set = set(given), set(expected)
    missing, unexpected = sorted(expected_set - given_set), sorted(given_set - expected_set)
    problems = []
    if missing:
        problems.append(f"missing {_listed(missing)}")
    if unexpected:
        problems.append(f"unexpected {_listed(unexpected)}")
    if problems:
        raise ModelFormatError(
            f"{source} does not fit the configuration: {'; '.join(problems)}",
            hint="the weights belong to another model or configuration",
        )


def _listed(items: list[str]) -> str:
    shown = ", ".join(items[:_MAX_LISTED])
    more = len(items) - _MAX_LISTED
    return f"{shown} and {more} more" if more > 0 else shown
