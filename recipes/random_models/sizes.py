"""Constructor values of the three generations, in the names of the official files.

``full`` are the sizes of the releases, ``tiny`` the smallest that keep every structure.
"""

from __future__ import annotations

from typing import Any, Literal

Size = Literal["tiny", "full"]
GENERATIONS = (1, 2, 3)
SIZES: tuple[Size, ...] = ("tiny", "full")

SPEAKER_DIM = 192
WHISPER_SPECIAL = 1609
"""Languages, tasks and times behind the vocabulary of the multilingual Whisper tokenizer."""
N_MELS = 80

_DROPOUT = {"dropout_rate": 0.1, "positional_dropout_rate": 0.1}
_SAMPLING = {"top_p": 0.8, "top_k": 25, "win_size": 10, "tau_r": 0.1}
_SOLVER = {
    "sigma_min": 1e-06,
    "solver": "euler",
    "t_scheduler": "cosine",
    "training_cfg_rate": 0.2,
    "inference_cfg_rate": 0.7,
    "reg_loss_type": "l1",
}
_TINY_VOCODER = {
    "base_channels": 16,
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3]],
}


def constructor_values(generation: int, size: Size) -> dict[str, Any]:
    """Values for one generation: ``sample_rate``, ``llm``, ``flow``, ``hift``, ``qwen`` ..."""
    tiny = size == "tiny"
    if generation == 1:
        return _first(tiny)
    vocabulary = 81 if tiny else 6561
    return {
        "version": generation,
        "sample_rate": 24000,
        "speech_vocabulary": vocabulary,
        "control_tokens": 3 if generation == 2 else 200,
        "llm": {
            "llm_input_size": 32 if tiny else 896,
            "llm_output_size": 32 if tiny else 896,
            "speech_token_size": vocabulary,
            "length_normalized_loss": True,
            "lsm_weight": 0,
            "mix_ratio": [5, 15],
            "sampling": _SAMPLING,
        },
        "qwen": _qwen(tiny),
        "flow": _second_flow(tiny, vocabulary)
        if generation == 2
        else _third_flow(vocabulary, tiny),
        "hift": _vocoder(
            24000, [8, 5, 3], [16, 11, 7], tiny, look_right=4 if generation == 3 else None
        ),
        "mel": _mel(24000, 1920, 480, 8000 if generation == 2 else None),
    }


def _first(tiny: bool) -> dict[str, Any]:
    vocabulary, width, text = (64, 32, 16) if tiny else (4096, 1024, 512)
    heads, feed_forward = (2, 48) if tiny else (16, 4096)
    kinds = {"pos_enc_layer_type": "rel_pos_espnet", "selfattention_layer_type": "rel_selfattn"}
    layers = {
        "output_size": width,
        "attention_heads": heads,
        "linear_units": feed_forward,
        **_DROPOUT,
        "attention_dropout_rate": 0.0,
        **kinds,
        "static_chunk_size": 1,
    }
    conformer = {"normalize_before": True, "use_cnn_module": False, "macaron_style": False}
    return {
        "version": 1,
        "sample_rate": 22050,
        "speech_vocabulary": vocabulary,
        "control_tokens": 1,
        "llm": {
            "text_encoder_input_size": text,
            "llm_input_size": width,
            "llm_output_size": width,
            "text_token_size": WHISPER_SPECIAL + (290 if tiny else 50257),
            "speech_token_size": vocabulary,
            "length_normalized_loss": True,
            "lsm_weight": 0,
            "spk_embed_dim": SPEAKER_DIM,
            "text_encoder": {
                "input_size": text,
                **layers,
                **conformer,
                "num_blocks": 1 if tiny else 6,
                "input_layer": "linear",
                "use_dynamic_chunk": False,
                "use_dynamic_left_chunk": False,
            },
            "llm": {
                "input_size": width,
                **layers,
                "num_blocks": 2 if tiny else 14,
                "input_layer": "linear_legacy",
            },
            "sampling": _SAMPLING,
        },
        "flow": {
            **_flow(vocabulary, 16 if tiny else 512, 50),
            "encoder": _encoder(tiny),
            "length_regulator": {"channels": N_MELS, "sampling_ratios": [1, 1, 1, 1]},
            "decoder": _decoder(_unet(tiny, levels=2)),
        },
        "hift": _vocoder(22050, [8, 8], [16, 16], tiny),
        "mel": _mel(22050, 1024, 256, 8000),
    }


def _qwen(tiny: bool) -> dict[str, Any]:
    sizes = (600, 32, 2, 4, 2, 48) if tiny else (151936, 896, 24, 14, 2, 4864)
    names = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "intermediate_size",
    )
    return dict(zip(names, sizes, strict=True))


def _flow(vocabulary: int, width: int, rate: int) -> dict[str, Any]:
    return {
        "input_size": width,
        "output_size": N_MELS,
        "spk_embed_dim": SPEAKER_DIM,
        "output_type": "mel",
        "vocab_size": vocabulary,
        "input_frame_rate": rate,
        "only_mask_loss": True,
    }


def _second_flow(tiny: bool, vocabulary: int) -> dict[str, Any]:
    return {
        **_flow(vocabulary, 16 if tiny else 512, 25),
        "token_mel_ratio": 2,
        "pre_lookahead_len": 3,
        "encoder": {**_encoder(tiny), "static_chunk_size": 25},
        "decoder": _decoder(
            {**_unet(tiny, levels=1), "static_chunk_size": 50, "num_decoding_left_chunks": -1}
        ),
    }


def _third_flow(vocabulary: int, tiny: bool) -> dict[str, Any]:
    sizes = (32, 2, 2, 16) if tiny else (1024, 22, 16, 64)
    return {
        **_flow(vocabulary, N_MELS, 25),
        "token_mel_ratio": 2,
        "pre_lookahead_len": 3,
        "pre_lookahead_layer": {
            "in_channels": N_MELS,
            "channels": 32 if tiny else 1024,
            "pre_lookahead_len": 3,
        },
        "decoder": _decoder(
            {
                **dict(zip(("dim", "depth", "heads", "dim_head"), sizes, strict=True)),
                "ff_mult": 2,
                "mel_dim": N_MELS,
                "mu_dim": N_MELS,
                "spk_dim": N_MELS,
                "out_channels": N_MELS,
                "static_chunk_size": 50,
                "num_decoding_left_chunks": -1,
            }
        ),
    }


def _encoder(tiny: bool) -> dict[str, Any]:
    width, heads, feed_forward, blocks = (16, 2, 24, 1) if tiny else (512, 8, 2048, 6)
    return {
        "input_size": width,
        "output_size": width,
        "attention_heads": heads,
        "linear_units": feed_forward,
        "num_blocks": blocks,
        **_DROPOUT,
        "attention_dropout_rate": 0.1,
        "normalize_before": True,
        "input_layer": "linear",
        "pos_enc_layer_type": "rel_pos_espnet",
        "selfattention_layer_type": "rel_selfattn",
        "use_cnn_module": False,
        "macaron_style": False,
    }


def _unet(tiny: bool, levels: int) -> dict[str, Any]:
    channels, head_dim, heads, blocks, middle = (16, 8, 2, 1, 1) if tiny else (256, 64, 8, 4, 12)
    return {
        "in_channels": 4 * N_MELS,
        "out_channels": N_MELS,
        "channels": [channels] * levels,
        "dropout": 0.0,
        "attention_head_dim": head_dim,
        "n_blocks": blocks,
        "num_mid_blocks": middle,
        "num_heads": heads,
        "act_fn": "gelu",
    }


def _decoder(estimator: dict[str, Any]) -> dict[str, Any]:
    return {
        "in_channels": 3 * N_MELS,
        "n_spks": 1,
        "spk_emb_dim": N_MELS,
        "cfm_params": dict(_SOLVER),
        "estimator": estimator,
    }


def _vocoder(
    rate: int, rates: list[int], kernels: list[int], tiny: bool, look_right: int | None = None
) -> dict[str, Any]:
    stages = len(rates)
    values: dict[str, Any] = {
        "in_channels": N_MELS,
        "base_channels": 512,
        "nb_harmonics": 8,
        "sampling_rate": rate,
        "nsf_alpha": 0.1,
        "nsf_sigma": 0.003,
        "nsf_voiced_threshold": 10,
        "upsample_rates": rates,
        "upsample_kernel_sizes": kernels,
        "istft_params": {"n_fft": 16, "hop_len": 4},
        "resblock_kernel_sizes": [3, 7, 11],
        "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
        "source_resblock_kernel_sizes": [7, 11] if stages == 2 else [7, 7, 11],
        "source_resblock_dilation_sizes": [[1, 3, 5]] * stages,
        "lrelu_slope": 0.1,
        "audio_limit": 0.99,
    }
    if look_right is not None:
        values["conv_pre_look_right"] = look_right
    if tiny:
        values |= _TINY_VOCODER | {"source_resblock_dilation_sizes": [[1]] * stages}
    values["f0_predictor"] = {
        "num_class": 1,
        "in_channels": N_MELS,
        "cond_channels": 16 if tiny else 512,
    }
    return values


def _mel(rate: int, n_fft: int, hop: int, fmax: int | None) -> dict[str, Any]:
    return {
        "n_fft": n_fft,
        "num_mels": N_MELS,
        "sampling_rate": rate,
        "hop_size": hop,
        "win_size": n_fft,
        "fmin": 0,
        "fmax": fmax,
        "center": False,
    }
