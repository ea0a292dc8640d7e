from __future__ import annotations

from pathlib import Path

import pytest

from mynah.backends.base import Backend
from mynah.backends.fake import fake_config, load_fake_backend
from mynah.backends.native.kernels import instruction_sets
from mynah.backends.native.products import time_products
from mynah.backends.processor import Cores, Processor, ProductTimes
from mynah.cli.speed import chosen, int8_speed, native_kernels, stage_variants
from mynah.errors import BackendError
from mynah.hub import ModelFolder
from mynah.hub.folders import FileEntry

GRAPHS = {
    "flow_encoder.onnx": "int8_weights",
    "flow_velocity.onnx": "int8",
    "lm.onnx": "int8",
    "lm_pointer.onnx": "float32",
    "vocoder_decode.onnx": "int8_weights",
    "vocoder_f0.onnx": "float32",
}
VNNI = frozenset({"avx2", "avx512f", "avx512_vnni"})
OLD = frozenset({"avx2"})


def folder(variants: dict[str, str], conversion: dict[str, str] | None = None) -> ModelFolder:
    sizes = {name: 10 if "f0" in name else 1000 for name in variants}
    files = {name: FileEntry(size, "") for name, size in sizes.items()}
    return ModelFolder("test", Path("unused"), files, conversion or {}, variants)


def processor(features: frozenset[str] | None, machine: str = "x86_64") -> Processor:
    return Processor("test", machine, Cores(2, 2), features)


def timed(lm: float, flow: float) -> list[ProductTimes]:
    return [ProductTimes("lm", 1.0, lm), ProductTimes("flow", 1.0, flow)]


def test_a_stage_is_called_after_what_decides_its_speed() -> None:
    found = stage_variants(folder(GRAPHS))
    assert found == {"lm": "int8", "flow": "int8", "vocoder": "int8_weights"}
    assert stage_variants(folder({})) == {}


def test_fast_eight_bits_are_fine() -> None:
    check = int8_speed(folder(GRAPHS), processor(VNNI), lambda: timed(2.0, 3.5))
    assert check.state == "ok"
    assert "language model 2.0 x as fast, flow 3.5 x as fast" in check.detail
    assert "one instruction here: avx512_vnni" in check.detail


def test_slower_than_float_is_told_with_what_to_do() -> None:
    released = folder(GRAPHS, {"variant": "int8"})
    check = int8_speed(released, processor(VNNI), lambda: timed(2.0, 0.8))
    assert check.state == "slow"
    assert "flow 0.8 x" in check.detail
    assert "--variant float32" in check.cure
    assert not int8_speed(folder(GRAPHS), processor(VNNI), lambda: timed(2.0, 0.8)).cure


@pytest.mark.parametrize(
    ("features", "machine", "missing"),
    [
        (OLD, "x86_64", "avx512_vnni, avx_vnni, amx_int8"),
        (frozenset({"avx2", "avx512f"}), "AMD64", "avx512_vnni, avx_vnni, amx_int8"),
        (frozenset({"fp16"}), "aarch64", "dotprod, i8mm"),
    ],
)
def test_a_processor_without_the_instruction_is_told(
    features: frozenset[str], machine: str, missing: str
) -> None:
    check = int8_speed(folder(GRAPHS), processor(features, machine), lambda: timed(1.5, 1.2))
    assert check.state == "slow"
    assert f"has none of {missing}" in check.detail


def test_an_unknown_processor_is_judged_by_the_measurement() -> None:
    unknown = processor(None)
    assert int8_speed(folder(GRAPHS), unknown, lambda: timed(1.5, 1.2)).state == "ok"
    assert int8_speed(folder(GRAPHS), unknown, lambda: timed(1.5, 0.9)).state == "slow"


def test_only_stages_in_eight_bits_count() -> None:
    flow_only = folder({"flow_velocity.onnx": "int8", "lm.onnx": "int8_weights"})
    check = int8_speed(flow_only, processor(VNNI), lambda: timed(0.5, 3.0))
    assert check.state == "ok"
    assert "language model" not in check.detail
    plain = folder({"lm.onnx": "float32", "flow_velocity.onnx": "float16"})
    assert int8_speed(plain, processor(OLD), lambda: timed(0.1, 0.1)).state == "ok"


def test_a_runtime_that_cannot_measure_is_broken() -> None:
    def fails() -> list[ProductTimes]:
        raise BackendError("no such operator", hint="install it again")

    check = int8_speed(folder(GRAPHS), processor(VNNI), fails)
    assert (check.state, check.detail) == ("failed", "no such operator")


def test_this_machine_is_measured() -> None:
    check = int8_speed(folder(GRAPHS))
    assert check.state in ("ok", "slow")
    assert "x as fast as in float32" in check.detail


def test_what_runs_is_told_with_the_reason() -> None:
    plain = load_fake_backend(fake_config())
    backend = Backend(
        "third", "cpu", plain.lm, plain.flow, plain.vocoder, reason="it is the fastest here"
    )
    facts = chosen(backend, folder(GRAPHS, {"variant": "int8"}), processor(OLD))
    assert facts["backend"] == "third on cpu: it is the fastest here"
    assert facts["flow"].startswith("int8: stored and multiplied in eight bits (several")
    assert facts["vocoder"] == "int8_weights: stored in eight bits, computed in float32"
    assert facts["variant"] == "int8: chosen when the model was converted"
    assert "backend" in chosen(plain, folder({}), processor(None))


def test_native_kernels_are_told() -> None:
    check = native_kernels()
    names = instruction_sets()
    assert check.state == ("ok" if names and names[0] != "portable" else "missing")
    assert check.detail


@pytest.mark.skipif(not instruction_sets(), reason="the kernels were not built")
def test_native_products_are_timed() -> None:
    found = time_products()
    assert [one.name for one in found] == ["lm", "flow"]
    assert all(one.int8_s > 0 and one.float32_s > 0 for one in found)
