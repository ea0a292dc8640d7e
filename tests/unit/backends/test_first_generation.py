"""CosyVoice 1 on ONNX Runtime: missing and damaged files, and what its networks refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mynah.backends.base import NO_IDS, Cursor, Segment, joined_text
from mynah.backends.onnx.regulated_flow import OnnxRegulatedFlow
from mynah.backends.onnx.relative_language_model import OnnxRelativeLM
from mynah.backends.torch.flow import TorchRegulatedFlow
from mynah.errors import BackendError, ModelFormatError, ModelNotFoundError
from mynah.export.stages import export_any_flow, export_language_model
from mynah.networks.build import build_language_model
from mynah.networks.flow import Flow
from tests.tiny_model import tiny_config

CONFIG = tiny_config("cosyvoice1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("first")
    export_language_model(build_language_model(CONFIG.lm), path)
    export_any_flow(Flow(CONFIG.flow), path)
    return path


def copied(folder: Path, target: Path) -> Path:
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def load(folder: Path) -> tuple[OnnxRelativeLM, OnnxRegulatedFlow]:
    return OnnxRelativeLM(folder, CONFIG.lm, 1), OnnxRegulatedFlow(folder, threads=1)


def marker() -> Segment:
    return Segment("marker", np.array([0]))


@pytest.mark.parametrize(
    "name",
    [
        "lm.onnx",
        "lm_text_encoder.onnx",
        "lm_embeddings.safetensors",
        "flow_encoder.onnx",
        "flow_regulator.onnx",
        "flow_velocity.onnx",
        "flow_embeddings.safetensors",
    ],
)
def test_every_file_is_needed(folder: Path, tmp_path: Path, name: str) -> None:
    part = copied(folder, tmp_path)
    (part / name).unlink()
    with pytest.raises(ModelNotFoundError, match=name):
        load(part)


def test_other_tensors_are_refused(folder: Path, tmp_path: Path) -> None:
    part = copied(folder, tmp_path)
    save_file({"weight": np.zeros((2, 2), np.float32)}, part / "flow_embeddings.safetensors")
    with pytest.raises(ModelFormatError, match="not the speaker projection"):
        OnnxRegulatedFlow(part, threads=1)


def test_the_language_model_has_no_pointer(folder: Path) -> None:
    lm = OnnxRelativeLM(folder, CONFIG.lm, 1)
    _, state = lm.prefill([marker()])
    with pytest.raises(BackendError, match="no pointer"):
        lm.prefill([marker()], cursor=Cursor(0, 0))
    with pytest.raises(BackendError, match="no pointer"):
        lm.step(np.array([1]), [state], [Cursor(0, 0)])
    with pytest.raises(BackendError, match="no pointer"):
        lm.advance_logits(np.array([1]), [state])


def test_a_fork_goes_its_own_way(folder: Path) -> None:
    lm = OnnxRelativeLM(folder, CONFIG.lm, 1)
    _, state = lm.prefill([marker()])
    other = lm.fork(state)
    first = lm.step(np.array([1]), [state])
    lm.step(np.array([2]), [state])
    np.testing.assert_array_equal(lm.step(np.array([1]), [other]), first)


def test_ids_out_of_range_are_refused(folder: Path) -> None:
    lm = OnnxRelativeLM(folder, CONFIG.lm, 1)
    for kind in ("text", "speech", "marker"):
        with pytest.raises(BackendError, match="outside"):
            lm.prefill([Segment(kind, np.array([100_000]))])  # type: ignore[arg-type]  # all kinds


def test_tokens_that_follow_are_seen(folder: Path) -> None:
    """Look-ahead changes the frames, as any other token does, but yields none itself."""
    module = Flow(CONFIG.flow).eval()
    for flow in (OnnxRegulatedFlow(folder, threads=1), TorchRegulatedFlow(module)):
        tokens, state = np.arange(6), flow.new_encoder_state()
        alone = flow.to_numpy(flow.encode(tokens, None, state))
        seen = flow.to_numpy(flow.encode(tokens, np.array([7, 8]), state))
        assert alone.shape == seen.shape == (6, CONFIG.flow.n_mels)
        assert np.abs(alone - seen).max() > 1e-4


def test_without_guidance_both_branches_are_one(tmp_path: Path) -> None:
    config = CONFIG.flow.model_copy(update={"cfg_rate": 0.0})
    module = Flow(config).eval()
    export_any_flow(module, tmp_path)
    rng = np.random.default_rng(0)
    x, mu, cond = rng.standard_normal((3, 5, config.n_mels)).astype(np.float32)
    speaker = rng.standard_normal(config.speaker_dim).astype(np.float32)
    found = []
    for flow in (OnnxRegulatedFlow(tmp_path, threads=1, guided=False), TorchRegulatedFlow(module)):
        inputs = [flow.to_device(array) for array in (x, mu, cond)]
        state = flow.new_velocity_state()
        pair = flow.velocity(inputs[0], 0.5, inputs[1], flow.speaker(speaker), inputs[2], state)
        rows = [flow.to_numpy(row) for row in pair]
        np.testing.assert_array_equal(*rows)
        found.append(rows[0])
    np.testing.assert_allclose(*found, rtol=0, atol=1e-5)


def test_neighbouring_texts_become_one() -> None:
    def text(*ids: int) -> Segment:
        return Segment("text", np.array(ids))

    speech = Segment("speech", np.array([9]))
    joined = joined_text([marker(), text(1), text(2, 3), speech, speech, text(4)])
    assert [s.kind for s in joined] == ["marker", "text", "speech", "speech", "text"]
    assert joined[1].ids.tolist() == [1, 2, 3]
    assert joined[4].ids.tolist() == [4]
    assert joined_text([]) == []
    assert len(joined_text([Segment("text", NO_IDS), text(1)])) == 1
