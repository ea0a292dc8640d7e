from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mynah
from mynah.audio.io import read_audio
from mynah.types import Audio
from tests.e2e.conftest import Command

Message = Callable[[subprocess.CompletedProcess[bytes]], str]


def test_help_and_version_are_quick_and_load_nothing_heavy(command: Command) -> None:
    assert command("--version").stdout.decode().strip() == f"mynah {mynah.__version__}"
    assert b"voices" in command("--help").stdout
    code = (
        "import sys, mynah.cli.main; "
        "print([n for n in ('numpy', 'onnxruntime', 'torch', 'soundfile') if n in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], env=command.environment(), capture_output=True, check=True
    )
    assert found.stdout.decode().strip() == "[]"


def test_the_block_on_sockets_works(command: Command) -> None:
    code = "import socket; socket.socket()"
    blocked = subprocess.run(
        [sys.executable, "-c", code], env=command.environment(), capture_output=True, check=False
    )
    assert b"a socket was used" in blocked.stderr


def test_a_voice_lives_from_recording_to_removal(
    command: Command, message: Message, speechlike: Audio
) -> None:
    speechlike.save(command.folder / "clip.wav")
    consent = "I agreed on 1 May."
    added = command("voices", "add", "anna", "clip.wav", "--consent", consent, "--licence", "CC0")
    assert added.returncode == 0, message(added)
    shown = json.loads(command("voices", "show", "anna", "--json").stdout)
    assert shown["consent"] == consent
    assert shown["licence"] == "CC0"
    assert shown["state"] == "ready"

    again = command("voices", "add", "anna", "clip.wav")
    assert again.returncode == 2
    assert "already is a voice" in message(again)

    assert command("voices", "export", "anna", "carried.safetensors").returncode == 0
    assert command("voices", "remove", "anna").returncode == 0
    names = [voice["name"] for voice in json.loads(command("voices", "list", "--json").stdout)]
    assert names == ["tiny"]
    assert command("voices", "import", "carried.safetensors", "--name", "ann").returncode == 0
    assert command("say", "Hi there.", "--voice", "ann", "-o", "hi.wav").returncode == 0
    assert read_audio(command.folder / "hi.wav").duration_s > 0.1
    lines = command("voices", "list").stdout.decode().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["ann", "tiny"]


def test_a_recording_can_be_given_instead_of_a_voice(command: Command, speechlike: Audio) -> None:
    speechlike.save(command.folder / "clip.wav")
    assert command("say", "Hi.", "--voice", "clip.wav", "-o", "hi.wav").returncode == 0
    words = ["--transcript", "la la la"]
    assert command("say", "Hi.", "--voice", "clip.wav", *words, "-o", "hi.wav").returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "anna", "gone.wav"], "no file gone.wav"),
        (["add", "../anna", "gone.wav"], "no file gone.wav"),
        (["add", "anna", "text.wav"], "not a sound file"),
        (["show", "tini"], "did you mean tiny?"),
        (["remove", "tiny"], "comes with the model"),
        (["import", "text.wav"], "text.wav"),
    ],
)
def test_mistakes_with_voices(
    command: Command, message: Message, words: list[str], said: str
) -> None:
    (command.folder / "text.wav").write_text("no sound", encoding="utf-8")
    result = command("voices", *words)
    assert result.returncode == 2
    assert said in message(result)


def test_models_are_listed_and_shown(command: Command) -> None:
    (found,) = json.loads(command("models", "list", "--json").stdout)
    assert (found["name"], found["state"]) == ("nano", "ready")
    shown = json.loads(command("models", "show", "nano", "--json").stdout)
    assert shown["configuration"]["sample_rate"] == 24000
    assert shown["makes voices from recordings"] == "yes"


def test_looking_at_a_model_downloads_nothing(command: Command, message: Message) -> None:
    result = command("models", "show", "cosyvoice2-0.5b")
    assert result.returncode == 2
    assert "cosyvoice2-0.5b is not installed" in message(result)
    assert "mynah pull cosyvoice2-0.5b" in message(result)
    pulled = command("pull", "nano")  # it is there, and nobody can download it
    assert pulled.returncode == 0
    assert "nano is installed" in message(pulled)


def test_doctor_finds_a_healthy_installation(command: Command, message: Message) -> None:
    result = command("doctor", "--json")
    assert result.returncode == 0, message(result) + result.stdout.decode()
    states = {check["name"]: check["state"] for check in json.loads(result.stdout)}
    assert states["self-test"] == "ok"
    assert states["model nano"] == "ok"
    assert states["onnx against torch"] == "ok"
    assert states["eight-bit speed"] == "ok"


def test_a_damaged_model_is_found(command: Command, message: Message, mynah_home: Path) -> None:
    folder = mynah_home / "models" / "nano"
    shutil.copy(folder / "lm.onnx", folder / "copy")  # the file itself is shared by all tests
    (folder / "copy").replace(folder / "lm.onnx")
    data = bytearray((folder / "lm.onnx").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (folder / "lm.onnx").write_bytes(data)
    result = command("say", "Hello", "-o", "hello.wav")
    assert result.returncode == 1
    assert "lm.onnx is damaged" in message(result)
    (folder / "lm.onnx").write_bytes(data[:1000])
    assert "lm.onnx is truncated" in message(command("say", "Hello", "-o", "hello.wav"))
    doctor = command("doctor")
    assert doctor.returncode == 1
    assert b"not working: model nano" in doctor.stdout
    assert list(command.folder.iterdir()) == []


def test_bench_prints_figures_with_their_protocol(command: Command, message: Message) -> None:
    result = command("bench", "--runs", "1", "--text", "A short text.", "--json")
    assert result.returncode == 0, message(result)
    found = json.loads(result.stdout)
    assert "first chunk" in found["protocol"]
    assert "cores" in found["environment"]["machine"]
    assert 0 < found["median"]["first_audio_s"] < found["median"]["start_up_s"] + 60
    assert found["median"]["real_time_factor"] > 0
    assert " on cpu" in found["chosen"]["backend"]
    assert found["chosen"]["flow"].startswith("float32: ")
    assert "can be used" in found["environment"]["cores"]


def test_bench_passes_on_what_went_wrong(command: Command, message: Message) -> None:
    result = command("bench", "--runs", "1", "--model", "other")
    assert result.returncode == 2
    assert "no model 'other'" in message(result)


def test_eval_judges_and_keeps_the_audio(command: Command, message: Message) -> None:
    pytest.importorskip("pocketsphinx", reason="no wheel for this Python")
    (command.folder / "list.txt").write_text("# mine\nHello there.\n\nGood bye.\n", "utf-8")
    words = ["--sentences", "list.txt", "--json", "--save-audio", "kept"]
    result = command("eval", *words)
    assert result.returncode == 0, message(result)
    found = json.loads(result.stdout)
    assert found["summary"]["sentences"] == 2
    assert found["summary"]["stopped"] == 2
    assert [one["text"] for one in found["results"]] == ["Hello there.", "Good bye."]
    assert 1 <= found["summary"]["dnsmos_overall"] <= 5
    assert -1 <= found["summary"]["speaker_similarity"] <= 1
    assert sorted(path.name for path in (command.folder / "kept").iterdir()) == [
        "0000.wav",
        "0001.wav",
    ]
    (command.folder / "file").touch()
    wrong = command("eval", "--sentences", "list.txt", "--save-audio", "file/kept")
    assert wrong.returncode == 2
    assert "a part of the path is a file" in message(wrong)
    missing = command("eval", "--sentences", "gone.txt")
    assert missing.returncode == 2
    assert "gone.txt" in message(missing)
