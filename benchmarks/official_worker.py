"""Measured process for the official code: reads a job on stdin, prints one JSON line.

Run by ``benchmarks/cpu.py --official PATH`` with that folder as its own import path and the Python
that ``--official-python`` names. Only the model classes are used: token ids, speaker vector and
prompt mel are given, so no front end is timed on either side. Weights are random (speed does not
depend on them); ids that end speech are made impossible, so that every run has the same length.

"as shipped" keeps what the code does to itself: the first chunk grows from request to request,
because the chunk size lives on the model. "fixed" sets it back before each request.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import json
import sys
import time
import types
from typing import Any

# Imported by the official packages for their front end and training; not needed to speak.
_FRONT_END_MODULES = ("torchaudio", "torchaudio.compliance", "torchaudio.compliance.kaldi")
_QWEN = {
    "vocab_size": 151936, "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "intermediate_size": 4864, "rope_theta": 1e6, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True, "max_position_embeddings": 32768,
}  # fmt: skip
_ENCODER = {
    "input_size": 512, "output_size": 512, "attention_heads": 8, "linear_units": 2048,
    "num_blocks": 6, "normalize_before": True, "input_layer": "linear",
    "pos_enc_layer_type": "rel_pos_espnet", "selfattention_layer_type": "rel_selfattn",
    "use_cnn_module": False, "macaron_style": False, "static_chunk_size": 25,
}  # fmt: skip
_ESTIMATOR = {
    "in_channels": 320, "out_channels": 80, "channels": [256], "dropout": 0.0,
    "attention_head_dim": 64, "n_blocks": 4, "num_mid_blocks": 12, "num_heads": 8,
    "act_fn": "gelu", "static_chunk_size": 50, "num_decoding_left_chunks": -1,
}  # fmt: skip
_SOLVER = {
    "sigma_min": 1e-6, "solver": "euler", "t_scheduler": "cosine", "training_cfg_rate": 0.2,
    "inference_cfg_rate": 0.7, "reg_loss_type": "l1",
}  # fmt: skip
_VOCODER = {
    "in_channels": 80, "base_channels": 512, "nb_harmonics": 8, "sampling_rate": 24000,
    "nsf_alpha": 0.1, "nsf_sigma": 0.003, "nsf_voiced_threshold": 10, "upsample_rates": [8, 5, 3],
    "upsample_kernel_sizes": [16, 11, 7], "istft_params": {"n_fft": 16, "hop_len": 4},
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "source_resblock_kernel_sizes": [7, 7, 11],
    "source_resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "lrelu_slope": 0.1, "audio_limit": 0.99,
}  # fmt: skip


def main() -> None:
    """Build, then measure every quantity of the job."""
    job = json.load(sys.stdin)
    model = _build(job)
    result: dict[str, Any] = {"ready_s": time.time() - job["started"]}
    _stream(model, job | {"tokens": 50}, reset=True)  # first calls allocate
    result["lm_tokens_per_s"] = _lm_speed(model, job)
    result["fixed"] = [_stream(model, job, reset=True) for _ in range(job["runs"])]
    model.token_hop_len = 25
    shipped = [_stream(model, job, reset=False) for _ in range(job["runs"] + 2)]
    result["as_shipped"] = shipped[2:]  # the chunk size has reached its limit by then
    model.token_hop_len = 25
    result["offline"] = [_offline(model, job, job["tokens"]) for _ in range(job["runs"])]
    result["offline_long"] = [_offline(model, job, 3 * job["tokens"])] if job["long"] else []
    result["peak_memory_bytes"] = _peak_memory()
    print(json.dumps(result))


def _build(job: dict[str, Any]) -> Any:
    sys.path[:0] = [job["path"], f"{job['path']}/third_party/Matcha-TTS"]
    for name in _FRONT_END_MODULES:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 - absent, or built for another torch
            stub = types.ModuleType(name)
            stub.__spec__ = importlib.machinery.ModuleSpec(name, None)
            stub.__path__ = []
            sys.modules[name] = stub
    import torch
    from omegaconf import DictConfig
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    Qwen2ForCausalLM.from_pretrained = lambda *_, **__: Qwen2ForCausalLM(Qwen2Config(**_QWEN))
    load = importlib.import_module
    ras = functools.partial(load("cosyvoice.utils.common").ras_sampling, top_p=0.8, top_k=25)
    encoder = load("cosyvoice.transformer.upsample_encoder").UpsampleConformerEncoder(**_ENCODER)
    estimator = load("cosyvoice.flow.decoder").CausalConditionalDecoder(**_ESTIMATOR)
    decoder = load("cosyvoice.flow.flow_matching").CausalConditionalCFM(
        in_channels=240, n_spks=1, spk_emb_dim=80, cfm_params=DictConfig(_SOLVER),
        estimator=estimator,
    )  # fmt: skip
    lm_package = load("cosyvoice.llm.llm")
    lm = lm_package.Qwen2LM(
        llm_input_size=896, llm_output_size=896, speech_token_size=6561, mix_ratio=[5, 15],
        llm=lm_package.Qwen2Encoder("random"), sampling=ras, lsm_weight=0,
        length_normalized_loss=True,
    )  # fmt: skip
    flow = load("cosyvoice.flow.flow").CausalMaskedDiffWithXvec(
        input_size=512, output_size=80, spk_embed_dim=192, vocab_size=6561, input_frame_rate=25,
        only_mask_loss=True, token_mel_ratio=2, pre_lookahead_len=3, encoder=encoder,
        decoder=decoder,
    )  # fmt: skip
    f0 = load("cosyvoice.hifigan.f0_predictor").ConvRNNF0Predictor(1, 80, 512)
    vocoder = load("cosyvoice.hifigan.generator").HiFTGenerator(**_VOCODER, f0_predictor=f0)
    with torch.no_grad():
        lm.llm_decoder.bias[6561:] = -1e4
    model = load("cosyvoice.cli.model").CosyVoice2Model(lm.eval(), flow.eval(), vocoder.eval())
    return model


def _inputs(job: dict[str, Any]) -> dict[str, Any]:
    import torch

    generator = torch.Generator().manual_seed(1)
    ids = functools.partial(torch.randint, generator=generator, dtype=torch.int32)
    speech = ids(0, 6561, (1, job["prompt_tokens"]))
    speaker = torch.randn(1, 192, generator=generator)
    return {
        "text": ids(0, 1000, (1, job["text_ids"])),
        "prompt_text": ids(0, 1000, (1, job["prompt_text_ids"])),
        "llm_prompt_speech_token": speech,
        "flow_prompt_speech_token": speech,
        "prompt_speech_feat": torch.randn(1, 2 * job["prompt_tokens"], 80, generator=generator),
        "llm_embedding": speaker,
        "flow_embedding": speaker,
    }


def _with_length(model: Any, job: dict[str, Any], tokens: int) -> Any:
    """The language model's ``inference``, made to yield exactly ``tokens`` tokens."""
    ratio = (tokens + 0.5) / job["text_ids"]
    whole = type(model.llm).inference.__get__(model.llm)
    return functools.partial(whole, min_token_text_ratio=ratio, max_token_text_ratio=ratio)


def _stream(model: Any, job: dict[str, Any], *, reset: bool) -> dict[str, float]:
    if reset:
        model.token_hop_len = 25
    model.llm.inference = _with_length(model, job, job["tokens"])
    started = time.perf_counter()
    first, samples = 0.0, 0
    for chunk in model.tts(**_inputs(job), stream=True):
        first = first or time.perf_counter() - started
        samples += chunk["tts_speech"].shape[1]
    seconds = time.perf_counter() - started
    return {"first_audio_s": first, "rtf": seconds / (samples / 24000), "audio_s": samples / 24000}


def _offline(model: Any, job: dict[str, Any], tokens: int) -> dict[str, float]:
    model.llm.inference = _with_length(model, job, tokens)
    started = time.perf_counter()
    samples = sum(chunk["tts_speech"].shape[1] for chunk in model.tts(**_inputs(job)))
    seconds = time.perf_counter() - started
    return {"rtf": seconds / (samples / 24000), "audio_s": samples / 24000}


def _lm_speed(model: Any, job: dict[str, Any]) -> float:
    """Tokens per second between the 20th and the 60th token, at a context of about 200."""
    import torch

    given = _inputs(job)
    names = {
        "text": given["text"], "prompt_text": given["prompt_text"],
        "prompt_speech_token": given["llm_prompt_speech_token"],
        "embedding": given["llm_embedding"],
    }  # fmt: skip
    lengths = {
        f"{name}_len": torch.tensor([value.shape[1]], dtype=torch.int32)
        for name, value in names.items()
        if name != "embedding"
    }
    times = []
    for _ in _with_length(model, job, 60)(**names, **lengths, uuid="speed"):
        times.append(time.perf_counter())
    return (len(times) - 20) / (times[-1] - times[19])


def _peak_memory() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
