"""Reading released folders: configuration, weights in every spelling, and damage by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mynah.errors import ModelFormatError, ModelNotFoundError
from mynah.export.official_folder import OfficialFolder, read_official_folder
from mynah.hub.releases import QWEN_FOLDER, is_official_folder
from recipes.random_models import draw, tensors
from recipes.random_models.sizes import GENERATIONS, constructor_values
from tests.official import copy_release, released_folder


def change(path: Path, **changes: torch.Tensor | None) -> None:
    """Replace or remove tensors of a checkpoint."""
    content = torch.load(path, weights_only=True)
    for key, value in changes.items():
        content.pop(key, None)
        if value is not None:
            content[key] = value
    torch.save(content, path)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_all_stages_of_all_generations(generation: int) -> None:
    folder = read_official_folder(released_folder(generation))
    values = constructor_values(generation, "tiny")
    config = folder.config
    assert folder.generation == generation
    assert config.sample_rate == values["sample_rate"]
    assert config.token_rate == {1: 50, 2: 25, 3: 25}[generation]
    assert config.mel.fmax == {1: 8000, 2: 8000, 3: None}[generation]
    assert (config.instruct is None) == (generation == 1)
    assert is_official_folder(folder.path)
    for stage in ("lm", "flow", "vocoder"):
        assert sum(p.numel() for p in folder.load_stage(stage).parameters()) > 0


@pytest.mark.parametrize("generation", GENERATIONS)
def test_full_size_configurations_have_the_released_sizes(generation: int, tmp_path: Path) -> None:
    from recipes.random_models.yaml_text import NAMES, yaml_text

    values = constructor_values(generation, "full")
    (tmp_path / NAMES[generation]).write_text(yaml_text(values), encoding="utf-8")
    (tmp_path / QWEN_FOLDER).mkdir()
    (tmp_path / QWEN_FOLDER / "config.json").write_text(json.dumps(values.get("qwen", {})))
    config = read_official_folder(tmp_path).config
    assert config.lm.speech_vocab_size == (4096 if generation == 1 else 6561)
    assert config.lm.text_vocab_size == (51866 if generation == 1 else 151936)
    count = {1: (401, 1185, 227), 2: (295, 1121, 328), 3: (293, 330, 328)}[generation]
    parts = (tensors.language_model, tensors.flow, tensors.vocoder)
    assert tuple(len(list(part(values))) for part in parts) == count


def test_the_name_tells_what_weights_can_do(tmp_path: Path) -> None:
    instruct = copy_release(1, tmp_path / "CosyVoice-300M-Instruct")
    assert read_official_folder(instruct).config.model_id == "cosyvoice-300m-instruct"
    assert read_official_folder(instruct).config.instruct is not None
    assert read_official_folder(released_folder(1), "my-model").config.model_id == "my-model"
    other = copy_release(2, tmp_path / "Mein Modell!")
    assert read_official_folder(other).config.model_id == "mein-modell"


@pytest.mark.parametrize("old_style", [False, True])
@pytest.mark.parametrize("prefix", ["", "generator."])
def test_spellings_of_the_vocoder(old_style: bool, prefix: str, tmp_path: Path) -> None:
    values = constructor_values(2, "tiny")
    release = copy_release(2, tmp_path / "release")
    original = read_official_folder(released_folder(2)).load_stage("vocoder").state_dict()
    weights = draw.vocoder(values, 0, old_style=old_style, prefix=prefix)
    torch.save(weights, release / "hift.pt")
    found = read_official_folder(release).load_stage("vocoder").state_dict()
    assert found.keys() == original.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, original[key], rtol=0, atol=0)


def test_half_precision_weights_are_read(tmp_path: Path) -> None:
    release = copy_release(2, tmp_path / "release")
    content = torch.load(release / "llm.pt", weights_only=True)
    torch.save({key: value.bfloat16() for key, value in content.items()}, release / "llm.pt")
    module = read_official_folder(release).load_stage("lm")
    assert next(module.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    ("file", "stage", "key", "value", "message"),
    [
        ("llm.pt", "lm", "llm_decoder.bias", None, r"llm\.pt.*missing llm_decoder\.bias"),
        ("flow.pt", "flow", "extra", torch.zeros(1), r"flow\.pt.*unexpected extra"),
        ("flow.pt", "flow", "encoder_proj.bias", torch.zeros(3), r"projection\.bias is \(3,\)"),
        (
            "hift.pt", "vocoder", "conv_pre.parametrizations.weight.original0", None,
            r"hift\.pt.*conv_pre",
        ),
    ],
)  # fmt: skip
def test_wrong_tensors_are_named(
    file: str, stage: str, key: str, value: torch.Tensor | None, message: str, tmp_path: Path
) -> None:
    release = copy_release(2, tmp_path / "release")
    change(release / file, **{key: value})
    with pytest.raises(ModelFormatError, match=message):
        read_official_folder(release).load_stage(stage)


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("ran"),))  # type: ignore[return-value]


def test_a_checkpoint_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    release = copy_release(2, tmp_path / "release")
    torch.save({"trap": _Trap()}, release / "llm.pt")
    with pytest.raises(ModelFormatError, match=r"llm\.pt"):
        read_official_folder(release).load_stage("lm")
    assert not (tmp_path / "ran").exists()


def test_a_cut_checkpoint_is_damaged(tmp_path: Path) -> None:
    release = copy_release(2, tmp_path / "release")
    data = (release / "flow.pt").read_bytes()
    (release / "flow.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelFormatError, match=r"flow\.pt"):
        read_official_folder(release).load_stage("flow")


def test_missing_files_are_named(tmp_path: Path) -> None:
    release = copy_release(3, tmp_path / "release")
    (release / "hift.pt").unlink()
    (release / "campplus.onnx").unlink()
    with pytest.raises(ModelNotFoundError, match=r"hift\.pt, campplus\.onnx"):
        read_official_folder(release).used_files()
    (release / QWEN_FOLDER / "vocab.json").unlink()
    with pytest.raises(ModelNotFoundError, match="no tokenizer"):
        read_official_folder(release).tokenizer_files()
    (release / QWEN_FOLDER / "config.json").unlink()
    with pytest.raises(ModelFormatError, match=r"config\.json"):
        read_official_folder(release)
    (release / "cosyvoice3.yaml").unlink()
    with pytest.raises(ModelNotFoundError, match=r"none of cosyvoice\.yaml"):
        read_official_folder(release)
    first = copy_release(1, tmp_path / "first")
    (first / "multilingual.tiktoken").unlink()
    with pytest.raises(ModelNotFoundError, match="mynah pull"):
        read_official_folder(first).tokenizer_files()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    vocab_size: 81\n", "", "vocab_size"),
        ("hift: !new:", "hift_: !new:", "no hift"),
        ("sample_rate: 24000", "sample_rate: 22050", "missing or wrong value"),
        ("top_p: 0.8", "top_p: lots", "top_p"),
    ],
)
def test_a_wrong_configuration_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    release = copy_release(2, tmp_path / "release")
    path = release / "cosyvoice2.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ModelFormatError, match=message):
        read_official_folder(release)


def test_values_that_older_files_leave_out(tmp_path: Path) -> None:
    release = copy_release(2, tmp_path / "release")
    path = release / "cosyvoice2.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("    mix_ratio: [5, 15]\n", ""), encoding="utf-8")
    folder: OfficialFolder = read_official_folder(release)
    assert folder.config.lm.text_speech_mix == (5, 15)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_vocabulary_of_another_model_is_refused(generation: int, tmp_path: Path) -> None:
    read_official_folder(released_folder(generation)).check_vocabulary()
    release = copy_release(generation, tmp_path / "release")
    if generation == 1:
        with open(release / "multilingual.tiktoken", "a", encoding="ascii") as file:
            file.write("aGVsbG8= 290\n")
    else:
        path = release / QWEN_FOLDER / "vocab.json"
        many = {f"word{index}": 1000 + index for index in range(400)}
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | many))
    with pytest.raises(ModelFormatError, match=r"\d+ ids, the model has \d+ rows"):
        read_official_folder(release).check_vocabulary()
