"""The golden networks of CosyVoice 1, behind both backends, and the golden voice."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.backends.base import FloatArray, RegulatedFlowNetwork, SpeechLM, TokenArray
from mynah.backends.onnx.regulated_flow import OnnxRegulatedFlow
from mynah.backends.onnx.relative_language_model import OnnxRelativeLM
from mynah.backends.torch.flow import TorchRegulatedFlow
from mynah.backends.torch.language_model import TorchSpeechLM
from mynah.config import MelConfig, ModelConfig
from mynah.export.flow_regulated import export_regulated_flow
from mynah.export.lm_relative import export_relative_lm
from mynah.networks.build import build_language_model
from mynah.networks.checkpoint import load_strict
from mynah.networks.flow import Flow
from mynah.networks.keys_flow import flow_keys
from mynah.networks.keys_lm import lm_keys
from mynah.networks.relative_language_model import RelativeLanguageModel
from mynah.pipeline.flow import FlowPrompt
from mynah.pipeline.noise import ArrayNoise
from mynah.pipeline.windowed_flow import WindowedFlowStage
from tests.parity import golden

BACKENDS = ("torch", "onnx")
TOKEN_RATE = 50
OVERLAP_TOKENS = 20

Arrays = dict[str, npt.NDArray[Any]]


@cache
def model_config() -> ModelConfig:
    """The golden networks as a whole model, at the released rates."""
    lm, flow, vocoder = golden.model_configs("v1")
    rate = int(golden.config("v1")["sample_rate"])
    return ModelConfig(
        model_id="golden-v1",
        family="cosyvoice1",
        languages=("zh",),
        text_frontend="whisper-bpe",
        token_rate=TOKEN_RATE,
        sample_rate=rate,
        lm=lm,
        flow=flow,
        vocoder=vocoder,
        mel=MelConfig(sample_rate=rate, n_fft=1024, hop_length=256, win_length=1024),
    )


def lm_module() -> RelativeLanguageModel:
    """A new module with the golden weights."""
    config = model_config().lm
    module = build_language_model(config)
    load_strict(module, lm_keys(config).to_ours(golden.load_tensors("v1", "llm")), "golden llm")
    assert isinstance(module, RelativeLanguageModel)
    return module.eval()


def lm_network(backend: str, module: RelativeLanguageModel) -> SpeechLM:
    """A module behind one of the backends."""
    if backend == "torch":
        return TorchSpeechLM(module)
    with TemporaryDirectory() as name:
        export_relative_lm(module, Path(name))
        return OnnxRelativeLM(Path(name), module.config, 1)


@cache
def flow_module() -> Flow:
    config = model_config().flow
    module = Flow(config)
    load_strict(module, flow_keys(config).to_ours(golden.load_tensors("v1", "flow")), "golden")
    return module.eval()


@cache
def flow_network(backend: str) -> RegulatedFlowNetwork:
    if backend == "torch":
        return TorchRegulatedFlow(flow_module())
    with TemporaryDirectory() as name:
        export_regulated_flow(flow_module(), Path(name))
        return OnnxRegulatedFlow(Path(name), threads=1)


@cache
def noise() -> ArrayNoise:
    """What the official code was made to draw: the first frames of one table at every call."""
    table = golden.load("v1", "flow_io")["noise"][0]
    return ArrayNoise(np.ascontiguousarray(table.T))


def stage(backend: str, **changes: Any) -> WindowedFlowStage:
    """The flow stage; ``changes`` are values of the encoder's configuration."""
    config = model_config()
    encoder = config.flow.encoder.model_copy(update=changes)
    flow = config.flow.model_copy(update={"encoder": encoder})
    return WindowedFlowStage(
        flow_network(backend), config.model_copy(update={"flow": flow}), noise()
    )


def prompt(arrays: Arrays, *, with_speech: bool = True) -> FlowPrompt:
    """The golden voice of a file."""
    speaker = arrays["spk_embedding"][0]
    if not with_speech:
        return FlowPrompt(speaker)
    tokens = arrays["prompt_token"][0].astype(np.int64)
    return FlowPrompt(speaker, tokens, arrays["prompt_feat"][0])


def generated(arrays: Arrays, start: int, stop: int) -> TokenArray:
    """Tokens ``start`` to ``stop`` of a file's generated ones."""
    return np.asarray(arrays["token"][0][start:stop], dtype=np.int64)


def whole(backend: str, voice: FlowPrompt, tokens: TokenArray) -> FloatArray:
    """All mel frames (F, n_mels) in one pass."""
    flow = stage(backend)
    return flow.advance(tokens, flow.fork(flow.start(voice), whole=True), final=True)
