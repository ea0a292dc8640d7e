"""``spk2info.pt`` in all its shapes becomes voices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mynah.errors import ModelFormatError
from mynah.export.official_folder import read_official_folder
from mynah.export.speakers import read_speakers
from recipes.random_models.sizes import GENERATIONS
from tests.official import copy_release, released_folder


def rewritten(tmp_path: Path, table: object) -> Any:
    release = copy_release(2, tmp_path / "release")
    torch.save(table, release / "spk2info.pt")
    return read_official_folder(release)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_both_shapes(generation: int) -> None:
    folder = read_official_folder(released_folder(generation))
    table = torch.load(folder.path / "spk2info.pt", weights_only=True)
    woman, man, mine = read_speakers(folder, pytest.fail)
    assert [woman.name, man.name, mine.name] == ["中文女", "英文男", "my_zero_shot_spk"]
    assert (woman.language, man.language, mine.language) == ("zh", "en", "")
    np.testing.assert_array_equal(woman.speaker_embedding, table["中文女"]["embedding"][0])
    assert not len(woman.speech_tokens)
    assert not len(woman.mel)
    entry = table["my_zero_shot_spk"]
    # the words, without what a model's template puts before them
    assert mine.transcript == "hello there."
    np.testing.assert_array_equal(mine.speech_tokens, entry["flow_prompt_speech_token"][0])
    np.testing.assert_array_equal(mine.mel, entry["prompt_speech_feat"][0][: len(mine.mel)])
    np.testing.assert_array_equal(mine.speaker_embedding, entry["flow_embedding"][0])


def test_tokens_and_mel_are_cut_to_the_same_stretch(tmp_path: Path) -> None:
    entry = {
        "speech_token": torch.arange(10).int()[None],
        "speech_feat": torch.randn(1, 17, 80),
        "embedding": torch.ones(1, 192),
        "prompt_text": "as text",
    }
    (voice,) = read_speakers(rewritten(tmp_path, {"server": entry}), pytest.fail)
    assert voice.speech_tokens.tolist() == list(range(8))
    assert voice.mel.shape == (16, 80)
    assert voice.transcript == "as text"


def test_names_that_cannot_be_names(tmp_path: Path) -> None:
    names = ["a b/c", "a b:c", "../..", "中文女", "con", "x" * 100]
    table = {name: {"embedding": torch.ones(1, 192)} for name in names}
    notes: list[str] = []
    voices = read_speakers(rewritten(tmp_path, table), notes.append)
    assert [voice.name for voice in voices] == [
        "a-b-c", "a-b-c-2", "speaker", "中文女", "speaker-con", "x" * 60,
    ]  # fmt: skip
    assert len(notes) == 5
    assert "'a b/c' is called 'a-b-c' here" in notes[0]


def test_no_speakers(tmp_path: Path) -> None:
    release = copy_release(2, tmp_path / "release")
    (release / "spk2info.pt").unlink()
    assert read_speakers(read_official_folder(release), pytest.fail) == []
    torch.save({}, release / "spk2info.pt")
    assert read_speakers(read_official_folder(release), pytest.fail) == []


@pytest.mark.parametrize(
    "table",
    [
        [1, 2],
        {"a": 1},
        {"a": {}},
        {"a": {"embedding": torch.ones(1, 7)}},
        {"a": {"embedding": "x"}},
        {"a": {"embedding": torch.full((1, 192), float("nan"))}},
    ],
)
def test_damage_is_reported(table: object, tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"spk2info\.pt"):
        read_speakers(rewritten(tmp_path, table), pytest.fail)
