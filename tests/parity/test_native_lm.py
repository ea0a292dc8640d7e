"""The language model by our own kernels: close to torch, and blind to the batch."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest

from mynah.backends.base import Cursor, Segment
from mynah.backends.native.kernels import PORTABLE, Threads, instruction_sets
from mynah.backends.native.language_model import (
    NativeSpeechLM,
    load_native_lm,
    why_no_native_lm,
)
from mynah.backends.torch.language_model import TorchSpeechLM
from mynah.errors import BackendError, ModelFormatError, ModelNotFoundError
from mynah.export.lm import export_lm
from mynah.export.lm_graph import LMVariant
from mynah.pipeline.prompt import build_segments
from mynah.types import FloatArray
from tests.lm_models import tiny_config, tiny_module, tiny_prompt
from tests.parity.test_lm_variants import CONFIG, TOLERANCES, _scores, _segments, module
from tests.parity.test_lm_variants import network as onnx_network

SETS = instruction_sets()
if not SETS:
    pytest.skip("the native library was not built", allow_module_level=True)

# Measured: 0.0215 with every set of kernels, 0.0217 by ONNX Runtime.
TOLERANCE = 0.03
# What keys and values in half precision change; measured: 1.6e-4.
HALVES = 4e-4
EXACT: tuple[LMVariant, ...] = ("float32", "float16", "int8_weights")


@cache
def network(
    instruction_set: str = "", threads: int = 2, variant: LMVariant = "int8"
) -> NativeSpeechLM:
    with TemporaryDirectory() as folder:
        export_lm(module(), Path(folder), variant)
        assert why_no_native_lm(Path(folder), CONFIG) is None
        return load_native_lm(Path(folder), CONFIG, Threads(threads, instruction_set))


@cache
def exact() -> FloatArray:
    return _scores(TorchSpeechLM(module()), 40)


def _error(found: FloatArray, wanted: FloatArray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("name", SETS)
def test_close_to_torch(name: str) -> None:
    assert _error(_scores(network(name), 40), exact()) < TOLERANCE


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("variant", EXACT)
def test_variants_that_are_computed_in_float32(name: str, variant: LMVariant) -> None:
    found = _scores(network(name, variant=variant), 40)
    assert _error(found, exact()) < TOLERANCES[variant] + HALVES
    assert _error(found, _scores(onnx_network(variant), 40)) < HALVES


def test_no_worse_than_the_same_weights_by_onnx_runtime() -> None:
    theirs = _error(_scores(onnx_network("int8"), 40), exact())
    assert _error(_scores(network(), 40), exact()) < 1.05 * theirs


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("variant", ["int8", "float32"])
def test_a_row_does_not_depend_on_its_batch(name: str, threads: int, variant: LMVariant) -> None:
    """Equal to the bit, whatever the others are, however the batch changes, by any thread."""
    lm, lonely = network(name, threads, variant), network(name, 1, variant)
    tokens = np.random.default_rng(4).integers(0, 60, (9, 5))
    alone: list[list[FloatArray]] = []
    for number in range(5):
        _, state = lonely.prefill(_segments(number))
        steps = tokens[:, number : number + 1]
        alone.append([lonely.step(step, [state])[0] for step in steps])
    states = [lm.prefill(_segments(number))[1] for number in range(5)]
    made = [0] * 5
    for batch in ([0], [4, 3, 2, 1, 0], [2, 4], [1, 3, 4], [0, 1, 2, 3, 4], [3]):
        step = np.array([tokens[made[number], number] for number in batch])
        for number, row in zip(batch, lm.step(step, [states[n] for n in batch]), strict=True):
            np.testing.assert_array_equal(row, alone[number][made[number]])
            made[number] += 1


def test_a_batch_larger_than_the_buffers() -> None:
    lm = network()
    _, state = lm.prefill(_segments(1))
    tokens = np.arange(200) % 60
    rows = lm.step(tokens, [lm.fork(state) for _ in tokens])
    for index in (0, 59, 191, 192, 199):
        row = lm.step(tokens[index : index + 1], [lm.fork(state)])[0]
        np.testing.assert_array_equal(rows[index], row)


@pytest.mark.parametrize("name", SETS)
def test_a_prompt_in_pieces_is_the_whole(name: str) -> None:
    """To the bit: no row knows what is computed beside it."""
    lm = network(name)
    whole, state = lm.prefill(_segments(3))
    pieces = None
    for segment in _segments(3):
        logits, pieces = lm.prefill([segment], pieces)
    assert pieces is not None
    np.testing.assert_array_equal(logits, whole)
    step = np.array([7])
    np.testing.assert_array_equal(lm.step(step, [pieces]), lm.step(step, [state]))
    np.testing.assert_array_equal(pieces.hidden, state.hidden)


@pytest.mark.parametrize("read", [5, 64, 100])  # not one segment, exactly one, more
def test_forks_go_on_alone(read: int) -> None:
    lm = network()
    prompt = [Segment("speech", np.arange(read) % 60)]
    _, state = lm.prefill(prompt)
    forks = [lm.fork(state) for _ in range(3)]
    rows = lm.step(np.array([7, 8, 7]), forks)
    np.testing.assert_array_equal(rows[0], rows[2])
    assert (rows[0] != rows[1]).any()
    again = lm.fork(forks[1])
    for token in range(70):  # past the end of a segment
        step = np.array([token % 60])
        own = lm.step(step, [state]) if token else lm.step(np.array([8]), [state])
        other = lm.step(step, [forks[0]])
        assert token or (own == rows[1]).all()
        assert (own != other).any()
    _, fresh = lm.prefill([*prompt, Segment("speech", np.array([8]))])
    step = np.array([9])
    expected = lm.step(step, [fresh])
    np.testing.assert_array_equal(lm.step(step, [again]), expected)
    np.testing.assert_array_equal(lm.step(step, [forks[1]]), expected)


def test_thousands_of_positions() -> None:
    """More than the first tables of positions, buffers and lists of segments hold."""
    lm, torch_lm = network(), TorchSpeechLM(module())
    long = [Segment("speech", np.arange(2100) % 60)]
    (found, ours), (wanted, theirs) = lm.prefill(long), torch_lm.prefill(long)
    assert _error(found, wanted) < 2 * TOLERANCE
    pieces = None
    for part in np.array_split(long[0].ids, 3):
        logits, pieces = lm.prefill([Segment("speech", part)], pieces)
    np.testing.assert_array_equal(logits, found)
    rows = [
        (lm.step(np.array([token]), [ours])[0], torch_lm.step(np.array([token]), [theirs])[0])
        for token in range(6)
    ]
    assert all(_error(a, b) < 2 * TOLERANCE for a, b in rows)


@pytest.mark.parametrize("variant", ["int8", "int8_weights"])
@pytest.mark.parametrize("kind", ["speaker", "pointer", "pointer-speaker"])
def test_speakers_and_pointers(kind: str, variant: LMVariant, tmp_path: Path) -> None:
    made, config = tiny_module(kind), tiny_config(kind)
    export_lm(made, tmp_path, variant)
    assert why_no_native_lm(tmp_path, config) is None
    networks = (load_native_lm(tmp_path, config, Threads(1)), TorchSpeechLM(made))
    has_pointer = config.pointer is not None
    cursor = Cursor(0, 0) if has_pointer else None
    segments = build_segments(tiny_prompt(kind, 1, 6), config)
    (found, ours), (wanted, theirs) = (lm.prefill(segments, None, cursor) for lm in networks)
    assert _error(found, wanted) < TOLERANCE
    for index in range(12):
        token, cursors = np.array([index]), [Cursor(index // 3, index)] if has_pointer else None
        states = (ours, theirs)
        rows = [lm.step(token, [s], cursors) for lm, s in zip(networks, states, strict=True)]
        assert _error(*rows) < TOLERANCE
        if has_pointer:
            both = zip(networks, states, strict=True)
            moves = [lm.advance_logits(token, [state]) for lm, state in both]
            assert _error(*moves) < TOLERANCE


def test_why_not(tmp_path: Path) -> None:
    tiny = tiny_config("plain")
    with pytest.raises(ModelNotFoundError):
        why_no_native_lm(tmp_path, tiny)
    export_lm(tiny_module("plain"), tmp_path, "int4")
    assert "variant int4" in (why_no_native_lm(tmp_path, tiny) or "")
    export_lm(tiny_module("plain"), tmp_path, "int8")
    assert why_no_native_lm(tmp_path, tiny) is None
    for change in ({"trunk": "relative"}, {"hidden_size": 40}, {"head_dim": 300}):
        assert why_no_native_lm(tmp_path, tiny.model_copy(update=change))


def test_files_of_earlier_versions_are_left_to_onnx_runtime(tmp_path: Path) -> None:
    """Their weights have no names."""
    config = tiny_config("plain")
    export_lm(tiny_module("plain"), tmp_path, "int8")
    graph = onnx.load(str(tmp_path / "lm.onnx"))
    for index, weight in enumerate(graph.graph.initializer):
        weight.name = f"w{index}"
    onnx.save(graph, str(tmp_path / "lm.onnx"))
    assert "earlier version" in (why_no_native_lm(tmp_path, config) or "")
    with pytest.raises(ModelFormatError, match="qkv"):
        load_native_lm(tmp_path, config, Threads(1))


def test_weights_of_another_model(tmp_path: Path) -> None:
    config = tiny_config("plain")
    export_lm(tiny_module("plain"), tmp_path, "int8")
    other = config.model_copy(update={"num_layers": 3})
    with pytest.raises(ModelFormatError, match=r"layers\.2") as caught:
        load_native_lm(tmp_path, other, Threads(1))
    assert "different models" in caught.value.hint


def test_nothing_to_read() -> None:
    with pytest.raises(BackendError, match="nothing to read"):
        network().prefill([Segment("text", np.zeros(0, dtype=np.int64))])


def test_plain_c_is_always_there() -> None:
    assert SETS[-1] == PORTABLE
