"""What a folder is, where it is not the one of a released model."""

from __future__ import annotations

from pathlib import Path

import pytest

from mynah.errors import ModelNotFoundError
from mynah.hub.releases import find_yaml, is_official_folder, used_files
from tests.official import copy_release


def test_a_folder_that_is_no_release_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"there is no folder .*gone"):
        find_yaml(tmp_path / "gone")
    (tmp_path / "llm.pt").touch()
    with pytest.raises(ModelNotFoundError, match=r"llm\.pt is a file.*pass the folder"):
        find_yaml(tmp_path / "llm.pt")
    with pytest.raises(ModelNotFoundError, match=r"none of cosyvoice\.yaml.*downloaded from"):
        find_yaml(tmp_path)
    made = tmp_path / "made"
    made.mkdir()
    for name in ("config.json", "manifest.json"):
        (made / name).touch()
    with pytest.raises(ModelNotFoundError, match=r"converted already.*mynah say .* -m .*made"):
        find_yaml(made)


def test_the_release_inside_is_suggested(tmp_path: Path) -> None:
    copy_release(2, tmp_path / "CosyVoice2-0.5B")
    assert not is_official_folder(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"did you mean .*/CosyVoice2-0\.5B"):
        used_files(tmp_path)


def test_everything_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    release = copy_release(2, tmp_path / "release")
    names = set(used_files(release))
    assert {"cosyvoice2.yaml", "llm.pt", "CosyVoice-BlankEN/merges.txt"} <= names
    (release / "llm.pt").unlink()
    (release / "CosyVoice-BlankEN" / "config.json").unlink()
    with pytest.raises(ModelNotFoundError, match=r"no llm\.pt, CosyVoice-BlankEN/config\.json"):
        used_files(release)
