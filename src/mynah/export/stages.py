"""Which exporter a configuration asks for: tables, no conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mynah.export.flow import export_flow
from mynah.export.flow_regulated import export_regulated_flow
from mynah.export.lm import export_lm, table_dtype
from mynah.export.lm_relative import export_relative_lm
from mynah.export.shrink import Variant
from mynah.networks.build import LanguageModel
from mynah.networks.flow import Flow


def export_language_model(
    module: LanguageModel, folder: Path, variant: Variant = "float32"
) -> None:
    """Write everything the ONNX backend needs of a language model into ``folder``.

    A graph that cannot be written in ``variant`` is written in float32, to be shrunk afterwards.
    """
    _LANGUAGE_MODELS[module.config.trunk](module, folder, variant)


def export_any_flow(flow: Flow, folder: Path, variant: Variant = "float32") -> None:
    """Write everything the ONNX backend needs of a flow into ``folder``.

    A velocity network that cannot be written in ``variant`` is written in float32, to be shrunk
    afterwards.
    """
    _FLOWS.get(flow.config.encoder.kind, export_flow)(flow, folder, variant)


def _export_relative(module: Any, folder: Path, variant: Variant) -> None:
    export_relative_lm(module, folder, table_dtype(variant))


def _export_regulated(flow: Flow, folder: Path, variant: Variant) -> None:
    export_regulated_flow(flow, folder)


# The module always fits its kind, which a table of functions cannot express.
_LANGUAGE_MODELS: Mapping[str, Callable[[Any, Path, Variant], None]] = {
    "qwen2": export_lm,
    "relative": _export_relative,
}
_FLOWS: Mapping[str, Callable[[Flow, Path, Variant], None]] = {
    "regulated_conformer": _export_regulated
}
