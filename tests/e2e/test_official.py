"""The whole way, for each generation: pull, convert, make a voice, speak; then no network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from mynah import TTS, hub
from mynah.audio.io import read_audio, write_audio
from mynah.hub.catalogue import MODELS
from mynah.types import Audio
from tests.e2e.conftest import Command
from tests.hub_server import Fault, environment, serving
from tests.official import copy_release, released_folder

Message = Callable[[CompletedProcess[bytes]], str]

CASES = [
    pytest.param(1, "cosyvoice-300m-sft", "modelscope", id="first"),
    pytest.param(2, "cosyvoice2-0.5b", "hf", id="second"),
    pytest.param(3, "cosyvoice3-0.5b", "hf", id="third"),
]


@pytest.fixture
def clip(tmp_path: Path, speechlike: Audio) -> Path:
    path = tmp_path / "clip.wav"
    write_audio(path, speechlike)
    return path


def speech(result: CompletedProcess[bytes], path: Path, message: Message) -> Audio:
    assert result.returncode == 0, message(result)
    audio = read_audio(path)
    assert audio.duration_s > 0.05
    assert np.abs(audio.samples).max() > 0.01
    return audio


@pytest.mark.parametrize(("generation", "name", "source"), CASES)
def test_from_the_hub_to_speech(
    generation: int,
    name: str,
    source: str,
    tmp_path: Path,
    mynah_home: Path,
    clip: Path,
    message: Message,
) -> None:
    repository = MODELS[name].repositories[source]  # type: ignore[index]
    options = ["--source", source, *(["--variant", "rl"] if generation == 3 else [])]
    with serving(repositories={repository: released_folder(generation)}) as server:
        server.faults["flow.pt"] = [Fault(break_after=50_000)]
        online = Command(tmp_path, {**environment(server), "MYNAH_TESTS_LOOPBACK": "1"})
        pulled = online("pull", name, *options)
        assert pulled.returncode == 0, message(pulled)
        assert any("bytes=50000-" in headers.get("range", "") for _, _, headers in server.requests)
        asked = {path.rpartition("/")[2] for _, path, _ in server.requests}
        assert ("llm.rl.pt" in asked) == (generation == 3)
        assert ("llm.pt" in asked) == (generation != 3)
    installed = name + ("-rl" if generation == 3 else "")
    assert pulled.stdout.decode().strip() == installed
    folder = hub.find_model(installed)
    assert folder.config().family == f"cosyvoice{generation}"
    assert folder.conversion["source"]["repository"] == repository
    assert not list((mynah_home / "cache" / "official").iterdir())

    # From here on every socket is refused, in this process and in the command's.
    with TTS.load(installed) as tts:
        assert {"中文女", "my_zero_shot_spk"} <= set(tts.voices.names())
        for voice in (None, "my_zero_shot_spk"):
            assert tts.synthesize("Hello there.", voice, seed=1).duration_s > 0.05
        tts.voices.add(tts.create_voice(clip, "hello there", name="me"))
    out = tmp_path / "out.wav"
    said = Command(tmp_path)("say", "Hello there.", "-v", "me", "-m", installed, "-o", str(out))
    assert speech(said, out, message).sample_rate == folder.config().sample_rate


def test_a_name_is_pulled_when_it_is_first_used(
    tmp_path: Path, mynah_home: Path, message: Message
) -> None:
    name, out = "cosyvoice2-0.5b", tmp_path / "out.wav"
    command = Command(tmp_path)
    words = ("say", "Hello there.", "-m", name, "-o", str(out))
    refused = command("--offline", *words)
    assert refused.returncode == 1
    assert "the network is forbidden" in message(refused)
    assert f"mynah pull {name}" in message(refused)
    with serving(repositories={MODELS[name].repositories["hf"]: released_folder(2)}) as server:
        online = replace(command, variables={**environment(server), "MYNAH_TESTS_LOOPBACK": "1"})
        speech(online(*words), out, message)
    out.unlink()
    speech(command("--offline", *words), out, message)


def test_a_released_folder_is_converted_when_it_is_first_used(
    tmp_path: Path, mynah_home: Path, message: Message
) -> None:
    release, out = copy_release(1, tmp_path / "CosyVoice-300M-SFT"), tmp_path / "out.wav"
    before = {path: path.stat().st_mtime_ns for path in release.rglob("*")}
    command = Command(tmp_path)
    words = ("say", "Hello there.", "-m", str(release), "-o", str(out))
    first = command(*words)
    speech(first, out, message)
    assert "converting lm" in message(first)
    second = command(*words)  # from the cache
    speech(second, out, message)
    assert "converting" not in message(second)
    assert {path: path.stat().st_mtime_ns for path in release.rglob("*")} == before


def test_mistakes_get_an_answer(tmp_path: Path, mynah_home: Path, message: Message) -> None:
    command = Command(tmp_path)
    unknown = command("pull", "cosyvoice2")
    assert unknown.returncode == 2
    assert "did you mean cosyvoice2-0.5b?" in message(unknown)
    listed = command("pull")
    assert [line.split("\t")[0] for line in listed.stdout.decode().splitlines()] == list(MODELS)
    (tmp_path / "empty").mkdir()
    empty = command("convert", str(tmp_path / "empty"))
    assert empty.returncode == 2
    assert "cosyvoice3.yaml" in message(empty)
