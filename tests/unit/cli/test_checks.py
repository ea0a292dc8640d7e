from __future__ import annotations

from importlib import metadata

import pytest

from mynah.backends.processor import read_processor
from mynah.cli import checks

REQUIREMENTS = [
    "numpy>=1.26",
    "no-such-base>=2",
    "no-such-extra>=1 ; extra == 'play'",
    "mynah-tts[torch]; extra == 'train'",
    "pytest>=8; extra == 'dev'",
]


def test_missing_packages_come_with_their_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: REQUIREMENTS)
    base, play = checks.packages()
    assert (base.name, base.state) == ("packages", "failed")
    assert "missing: no-such-base" in base.detail
    assert base.cure == "pip install mynah-tts"
    assert (play.name, play.state) == ("extra play", "missing")
    assert play.cure == "pip install 'mynah-tts[play]'"


def test_running_from_a_folder_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", unknown)
    (check,) = checks.packages()
    assert check.state == "missing"


def test_the_machine_is_described() -> None:
    processor = read_processor()
    assert processor.name in checks.machine()
    assert str(processor.cores) in checks.machine()


def test_a_missing_model_fails_with_its_hint() -> None:
    check = checks.model_files("no-such-model")
    assert check.state == "failed"
    assert "no model 'no-such-model'" in check.detail
    assert "known models" in check.cure
