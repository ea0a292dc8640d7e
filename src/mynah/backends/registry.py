"""From a model folder, a backend's name and a device to loaded networks. Imports are lazy."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mynah.backends.base import (
    Backend,
    FloatArray,
    FlowNetwork,
    SpeakerEncoder,
    SpeechLM,
    SpeechTokenizer,
    VocoderNetwork,
)
from mynah.backends.processor import read_cores
from mynah.config import ModelConfig
from mynah.errors import (
    BackendUnavailableError,
    InvalidRequestError,
    ModelFormatError,
    UnsupportedFeatureError,
)

if TYPE_CHECKING:
    import torch

BACKENDS = ("auto", "native", "onnx", "torch")
"""``auto`` = ``native`` where it can run a stage of the model, else ``onnx``."""
STAGES = ("lm", "flow", "vocoder")
WEIGHTS = "weights.safetensors"
NOISE = "flow_noise.safetensors"
_MOST_THREADS = 4
_SMALL_MODEL_BYTES = 100_000_000


def load_backend(
    folder: Path,
    config: ModelConfig,
    *,
    device: str = "cpu",
    backend: str = "auto",
    threads: int | None = None,
) -> Backend:
    """Load the networks of a verified model folder.

    Args:
        folder: of the model.
        config: its configuration.
        device: ``cpu``; with torch also ``cuda``, ``cuda:1``, ``mps``, or ``auto`` = the best.
        backend: one of ``BACKENDS``. The native one leaves to ONNX Runtime what it cannot run.
        threads: for one network call; None = ``default_threads``. The torch backend leaves
            torch's own setting as it is unless a number is given.

    Raises:
        InvalidRequestError: for an unknown backend or device, or less than one thread.
        BackendUnavailableError: if its package or the device is missing.
        ModelError: if a file of the model is missing or damaged.
    """
    if threads is not None and threads < 1:
        raise InvalidRequestError(f"threads is {threads}", hint="choose at least 1, or None")
    if backend in ("auto", "native", "onnx"):
        count = threads or default_threads(folder)
        return _load_local(folder, config, device, count, backend)
    if backend == "torch":
        return _load_torch(folder, config, device, threads)
    raise InvalidRequestError(
        f"there is no backend {backend!r}", hint=f"choose one of {', '.join(BACKENDS)}"
    )


def default_threads(folder: Path) -> int:
    """Threads for one network call of this model on this machine.

    A call of a small network is over before a second thread has woken up: measured with the
    embedded model on two cores, two threads took 6 % longer than one.
    """
    size = sum(path.stat().st_size for path in folder.glob("*.onnx"))
    return 1 if size < _SMALL_MODEL_BYTES else min(read_cores().usable, _MOST_THREADS)


def load_encoders(
    folder: Path, threads: int | None = None
) -> tuple[SpeechTokenizer, SpeakerEncoder]:
    """Load the two networks that turn a recording into a voice.

    Raises:
        UnsupportedFeatureError: if the model comes without them.
        ModelFormatError: if a file is damaged.
    """
    from mynah.backends.encoders import (
        SPEAKER_GRAPHS,
        TOKENIZER_GRAPH,
        OnnxSpeakerEncoder,
        OnnxSpeechTokenizer,
    )

    tokenizer = folder / TOKENIZER_GRAPH
    speaker = next((path for name in SPEAKER_GRAPHS if (path := folder / name).is_file()), None)
    if not tokenizer.is_file() or speaker is None:
        missing = TOKENIZER_GRAPH if speaker is not None else SPEAKER_GRAPHS[0]
        raise UnsupportedFeatureError(
            f"the model in {folder} cannot make voices from recordings: it has no {missing}",
            hint="use one of its voices, or another model",
        )
    count = threads or default_threads(folder)
    return OnnxSpeechTokenizer(tokenizer, count), OnnxSpeakerEncoder(speaker, count)


def load_noise(folder: Path) -> FloatArray | None:
    """Read the model's noise file (frames, n_mels); None if it has none.

    Raises:
        ModelFormatError: if it is damaged.
    """
    from mynah.backends.onnx.tensors import map_tensors

    path = folder / NOISE
    if not path.is_file():
        return None
    tensors = map_tensors(path)
    if "noise" not in tensors:
        raise ModelFormatError(f"{path} holds no noise", hint="convert the model again")
    return tensors["noise"]


def _load_local(
    folder: Path, config: ModelConfig, device: str, threads: int, backend: str
) -> Backend:
    """By ONNX Runtime, native kernels, or both."""
    if device not in ("cpu", "auto"):
        raise BackendUnavailableError(
            f"the {backend} backend does not run on {device!r}",
            hint='use device="cpu", or backend="torch" (pip install "mynah-tts[torch]")',
        )
    if not any(folder.glob("lm*.onnx")):
        raise BackendUnavailableError(
            f"the model {config.model_id} comes without graphs for ONNX Runtime",
            hint='use backend="torch", or convert it again as another variant',
        )
    stages = onnx_stages(folder, config, threads)
    parallel = max(1, read_cores().usable // threads)
    natives: dict[str, Callable[[], Any]] = {}
    reason = "ONNX Runtime was asked for"
    if backend != "onnx":
        natives, reason = _natives(folder, config, threads, parallel)
    if backend == "native" and not natives:
        raise BackendUnavailableError(
            f"the native kernels cannot run {config.model_id}: {reason}", hint='use backend="onnx"'
        )
    loaded = {name: load() for name, load in {**stages, **natives}.items()}
    if natives:
        from mynah.backends.native.kernels import load_library

        load_library().trim()
    return Backend(
        name="native" if natives else "onnx",
        device="cpu",
        parallel_calls=parallel,
        overlaps_stages=len(natives) == len(STAGES) and threads * parallel > 1,
        splits_guidance="flow" in natives,
        reason=reason,
        **loaded,
    )


def _natives(
    folder: Path, config: ModelConfig, threads: int, parallel: int
) -> tuple[dict[str, Callable[[], Any]], str]:
    """How to load the stages that can run natively; and why those and not others, in words."""
    from mynah.backends.native.kernels import Threads
    from mynah.backends.native.stages import (
        machine_obstacle,
        native_stages,
        remarks,
        stage_obstacle,
    )

    if (obstacle := machine_obstacle()) is not None:
        return {}, obstacle
    obstacles = {name: stage_obstacle(name, folder, config) for name in STAGES}
    able = [name for name, obstacle in obstacles.items() if obstacle is None]
    others = [f"{name} by ONNX Runtime: {why}" for name, why in obstacles.items() if why]
    if not able:
        return {}, "; ".join(others)
    others += [remark for name in able for remark in remarks(name, folder, config)]
    group = Threads(threads, groups=parallel)
    loaders = native_stages(folder, config, group)
    reason = f"native kernels ({group.instruction_set}) for {', '.join(able)}"
    return {name: loaders[name] for name in able}, "; ".join([reason, *others])


def native_stage(
    stage: str, folder: Path, config: ModelConfig, threads: int
) -> Callable[[], Any] | None:
    """How to load one stage for the native kernels; None if they cannot run it here."""
    from mynah.backends.native.kernels import Threads
    from mynah.backends.native.stages import native_stages, stage_obstacle

    if stage_obstacle(stage, folder, config) is not None:
        return None
    return native_stages(folder, config, Threads(threads))[stage]


def onnx_stages(folder: Path, config: ModelConfig, threads: int) -> dict[str, Callable[[], Any]]:
    """How to load each of ``lm``, ``flow`` and ``vocoder`` from its graphs, one by one."""
    return {
        "lm": lambda: _onnx_lm(folder, config, threads),
        "flow": lambda: _onnx_flow(folder, config, threads),
        "vocoder": lambda: _onnx_vocoder(folder, threads),
    }


def _onnx_lm(folder: Path, config: ModelConfig, threads: int) -> SpeechLM:
    from mynah.backends.onnx.language_model import OnnxSpeechLM
    from mynah.backends.onnx.relative_language_model import OnnxRelativeLM

    kinds: dict[str, Callable[..., SpeechLM]] = {
        "qwen2": OnnxSpeechLM,
        "relative": OnnxRelativeLM,
    }
    return kinds[config.lm.trunk](folder, config.lm, threads)


def _onnx_flow(folder: Path, config: ModelConfig, threads: int) -> FlowNetwork:
    from mynah.backends.onnx.flow import OnnxFlow
    from mynah.backends.onnx.regulated_flow import OnnxRegulatedFlow

    ratio, guided = config.flow.token_mel_ratio, config.flow.cfg_rate != 0
    if ratio is None:
        return OnnxRegulatedFlow(folder, threads=threads, guided=guided)
    return OnnxFlow(folder, token_mel_ratio=ratio, threads=threads, guided=guided)


def _onnx_vocoder(folder: Path, threads: int) -> VocoderNetwork:
    from mynah.backends.onnx.vocoder import OnnxVocoder

    return OnnxVocoder(folder, threads=threads)


def _load_torch(folder: Path, config: ModelConfig, device: str, threads: int | None) -> Backend:
    if find_spec("torch") is None:
        raise BackendUnavailableError(
            "the torch backend needs PyTorch, which is not installed",
            hint='pip install "mynah-tts[torch]"',
        )
    if not (folder / WEIGHTS).is_file():
        raise BackendUnavailableError(
            f"the model {config.model_id} comes without weights for torch",
            hint='use backend="onnx"',
        )
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    return build_torch_backend(_load_modules(folder, config), _torch_device(device))


def build_torch_backend(modules: dict[str, Any], device: torch.device) -> Backend:
    """Wrap the modules ``lm``, ``flow`` and ``vocoder`` for use on a device."""
    stages = {name: torch_stage(name, module.to(device)) for name, module in modules.items()}
    return Backend(
        name="torch",
        device=str(device),
        reason="PyTorch was asked for",
        # a processor's cores are busy with one stream already
        batches_rendering=device.type != "cpu",
        **stages,
    )


def torch_stage(name: str, module: Any) -> Any:
    """Wrap one module, where it is, as the network that the pipeline calls."""
    from mynah.backends.torch.flow import torch_flow
    from mynah.backends.torch.language_model import TorchSpeechLM
    from mynah.backends.torch.vocoder import TorchVocoder

    wrappers: dict[str, Callable[[Any], Any]] = {
        "lm": TorchSpeechLM,
        "flow": torch_flow,
        "vocoder": TorchVocoder,
    }
    return wrappers[name](module.eval())


def _load_modules(folder: Path, config: ModelConfig) -> dict[str, Any]:
    import torch

    from mynah.networks.build import build_module
    from mynah.networks.checkpoint import load_strict, read_tensors

    path = folder / WEIGHTS
    modules: dict[str, Any] = {}
    for name in STAGES:
        # Fresh weights are drawn only to be overwritten; the caller's generator stays as it is.
        with torch.random.fork_rng(devices=[]):
            modules[name] = build_module(name, config)
        load_strict(modules[name], read_tensors(path, f"{name}."), f"{path} ({name})")
    return modules


def _torch_device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BackendUnavailableError(
            f"the device {name!r} cannot be used: {reason}",
            hint='use device="cpu", or install a PyTorch build for this device',
        ) from error
    return device
