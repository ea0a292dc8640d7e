from __future__ import annotations

import pytest

from mynah.compat.names import official_name


@pytest.mark.parametrize(
    ("model_dir", "name"),
    [
        ("pretrained_models/CosyVoice-300M", "cosyvoice-300m"),
        ("pretrained_models/CosyVoice-300M-SFT/", "cosyvoice-300m-sft"),
        ("iic/CosyVoice-300M-Instruct", "cosyvoice-300m-instruct"),
        ("iic/CosyVoice2-0.5B", "cosyvoice2-0.5b"),
        ("C:\\models\\CosyVoice2-0.5B", "cosyvoice2-0.5b"),
        ("pretrained_models/Fun-CosyVoice3-0.5B", "cosyvoice3-0.5b"),
        ("FunAudioLLM/Fun-CosyVoice3-0.5B-2512", "cosyvoice3-0.5b"),
        ("cosyvoice3-0.5b", "cosyvoice3-0.5b"),
        ("pretrained_models/CosyVoice", None),
        ("somewhere/else", None),
        ("", None),
    ],
)
def test_names_as_scripts_write_them(model_dir: str, name: str | None) -> None:
    assert official_name(model_dir) == name
