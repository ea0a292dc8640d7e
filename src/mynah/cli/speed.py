"""Which variant of a model runs, why, and whether another one would be faster on this processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mynah.backends.base import Backend
from mynah.backends.processor import FAST_INT8, Processor, ProductTimes, read_processor
from mynah.cli.checks import Check
from mynah.errors import SynthesisError
from mynah.hub import ModelFolder

STAGES = {"lm": "language model", "flow": "flow", "vocoder": "vocoder"}
IN_INT8 = frozenset({"int8", "int8_rows", "int4"})
"""Variants whose products are made of eight-bit numbers; others are computed in float32."""

NAME = "eight-bit speed"
KERNELS = "native kernels"
_MEANINGS = {
    "float32": "stored and computed in float32",
    "float16": "stored in half precision, computed in float32",
    "int8_weights": "stored in eight bits, computed in float32",
    "int8": "stored and multiplied in eight bits",
    "int8_rows": "stored and multiplied in eight bits",
    "int4": "stored in four bits, multiplied in eight",
}


def stage_variants(folder: ModelFolder) -> dict[str, str]:
    """Variant of each stage, by ``STAGES``: of a graph in eight bits, else of its largest one."""
    found: dict[str, str] = {}
    for stage in STAGES:
        graphs = [name for name in folder.variants if name.split(".")[0].split("_")[0] == stage]
        if graphs:
            deciding = max(
                graphs,
                key=lambda name: (folder.variants[name] in IN_INT8, folder.files[name].size),
            )
            found[stage] = folder.variants[deciding]
    return found


def chosen(backend: Backend, folder: ModelFolder, processor: Processor) -> dict[str, str]:
    """What runs and why: the backend, then every stage with its variant, as facts to print."""
    where = f"{backend.name} on {backend.device}"
    facts = {"backend": f"{where}: {backend.reason}" if backend.reason else where}
    for stage, variant in stage_variants(folder).items():
        facts[STAGES[stage]] = f"{variant}: {_MEANINGS.get(variant, 'as the model has it')}"
        if variant in IN_INT8:
            facts[STAGES[stage]] += f" ({int8_support(processor)})"
    if asked := folder.conversion.get("variant"):
        facts["variant"] = f"{asked}: chosen when the model was converted"
    elif folder.variants:
        facts["variant"] = "as the model was made: there is one"
    return facts


def int8_support(processor: Processor) -> str:
    """How products of eight-bit numbers are made on a processor, in words."""
    there = sorted(FAST_INT8 & (processor.features or frozenset()))
    if there:
        return f"one instruction here: {', '.join(there)}"
    if processor.has_fast_int8 is None:
        return "this system does not tell whether that is one instruction"
    wanted = ", ".join(name for name in processor.known if name in FAST_INT8)
    return f"several instructions here: the processor has none of {wanted}"


def native_kernels() -> Check:
    """Whether the native kernels can be used, and which."""
    from mynah.backends.native.kernels import instruction_sets
    from mynah.backends.native.stages import machine_obstacle

    obstacle = machine_obstacle()
    if obstacle is None:
        return Check(KERNELS, "ok", f"{instruction_sets()[0]}")
    cure = "models run by ONNX Runtime, slower; with a C compiler, install mynah-tts once more"
    return Check(KERNELS, "missing", obstacle, cure)


def int8_speed(
    folder: ModelFolder,
    processor: Processor | None = None,
    measure: Callable[[], Sequence[ProductTimes]] | None = None,
) -> Check:
    """Warn where a model multiplies in eight bits and float32 would be faster.

    Args:
        folder: the model.
        processor: None = this machine's.
        measure: times products as the backend makes them; None = that which would run here.
    """
    from mynah.backends.native import products as native_products
    from mynah.backends.native.stages import machine_obstacle
    from mynah.backends.onnx import products as onnx_products

    is_native = measure is None and machine_obstacle() is None
    if measure is None:
        measure = native_products.time_products if is_native else onnx_products.time_products
    stages = [stage for stage, variant in stage_variants(folder).items() if variant in IN_INT8]
    if not stages:
        return Check(NAME, "ok", "this model is computed in float32")
    processor = read_processor() if processor is None else processor
    try:
        times = [one for one in measure() if one.name in stages]
    except SynthesisError as error:
        return Check(NAME, "failed", error.message, error.hint)
    support = int8_support(processor)
    measured = ", ".join(f"{STAGES[one.name]} {one.gain:.1f} x as fast" for one in times)
    detail = f"{measured} as in float32; eight-bit products: {support}"
    # without such an instruction ONNX Runtime is slower in graphs than in these two products
    is_fine = is_native or processor.has_fast_int8 is not False
    if is_fine and all(one.gain >= 1 for one in times):
        return Check(NAME, "ok", detail)
    cure = "convert the release once more with --variant float32 and compare with `mynah bench`"
    return Check(NAME, "slow", detail, cure if folder.conversion else "")
