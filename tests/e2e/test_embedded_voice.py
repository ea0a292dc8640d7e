"""The voice inside the package, as a stranger gets it: small, alone sufficient, understood."""

from __future__ import annotations

import json

import pytest

from mynah.audio.io import read_audio
from tests.e2e.conftest import EMBEDDED, Command

MOST_BYTES = 60_000_000
WORST_WORD_ERROR_RATE = 0.40
"""On ten sentences with one seed; the figures over all sentences are in the model card."""


def test_it_is_small(embedded_command: Command) -> None:
    files = [path for path in EMBEDDED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES


def test_the_installation_is_healthy(embedded_command: Command) -> None:
    result = embedded_command("doctor", "--json")
    states = {check["name"]: check["state"] for check in json.loads(result.stdout)}
    assert result.returncode == 0, result.stdout.decode()
    assert states["model nano"] == "ok"
    assert states["self-test"] == "ok"


def test_it_speaks_without_options(embedded_command: Command) -> None:
    result = embedded_command("say", "Hello, this is mynah.", "-o", "hello.wav")
    assert result.returncode == 0, result.stderr.decode()
    assert 0.8 < read_audio(embedded_command.folder / "hello.wav").duration_s < 4


def test_it_is_understood(embedded_command: Command) -> None:
    pytest.importorskip("pocketsphinx", reason="no wheel for this Python")
    result = embedded_command("eval", "--count", "10", "--json")
    assert result.returncode == 0, result.stderr.decode()
    summary = json.loads(result.stdout)["summary"]
    assert summary["stopped"] == 10
    assert summary["length_ok"] == 10
    assert summary["word_error_rate"] <= WORST_WORD_ERROR_RATE
