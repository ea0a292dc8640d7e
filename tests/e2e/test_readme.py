"""What the README shows is run: its Python, and its commands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mynah.audio.io import read_audio, write_audio
from tests.e2e.conftest import Command
from tests.official import released_folder
from tests.sounds import make_speechlike

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SPEAKS = "./scripts/say "


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def _commands() -> list[str]:
    lines = [line for block in _blocks("console") for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def _spoken() -> list[str]:
    """Commands of mynah itself; the script only installs it before."""
    lines = [re.sub(rf"^{re.escape(SPEAKS)}", "mynah say ", line) for line in _commands()]
    return [line for line in lines if line.startswith("mynah ")]


def test_the_readme_has_what_this_file_runs() -> None:
    assert len(_blocks("python")) == 2
    assert any(line.startswith(SPEAKS) for line in _commands())
    assert "./scripts/test" in _commands()
    assert len(_spoken()) >= 5


def test_the_python_example_runs(command: Command) -> None:
    code = _blocks("python")[0]
    assert len(code.strip().splitlines()) == 6
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=command.folder,
        env=command.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("0.00 s: ")
    assert read_audio(command.folder / "hello.wav").duration_s > 0.1


def test_the_example_for_official_models_runs(command: Command) -> None:
    """On a release of random weights; what the reader would bring is brought here."""
    code = _blocks("python")[1].replace('"cosyvoice2-0.5b"', repr(str(released_folder(2))))
    brought = "words_from_a_language_model, play = lambda: iter(['Hello ', 'there.']), print\n"
    for name in ("anna.wav", "me.wav"):
        write_audio(command.folder / name, make_speechlike(3.0, 24000))
    result = subprocess.run(
        [sys.executable, "-c", brought + code],
        cwd=command.folder,
        env=command.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "Audio(" in result.stdout
    for name in ("morning.wav", "happy.wav", "me-as-anna.wav"):
        assert read_audio(command.folder / name).duration_s > 0.1


@pytest.mark.parametrize("line", _spoken())
def test_the_commands_run(command: Command, line: str) -> None:
    first, *others = line.split(" | cat > ")
    result = command(*shlex.split(first)[1:])
    assert result.returncode == 0, result.stderr.decode()
    written = re.findall(r"-o (\S+)", first)
    for name in others:
        (command.folder / name).write_bytes(result.stdout)
    for name in written + others:
        assert read_audio(command.folder / name).duration_s > 0.1


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")
@pytest.mark.parametrize("name", ["scripts/say", "scripts/test", ".ci/run"])
def test_the_scripts_can_be_run(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / name)], check=True)


def _prose(text: str) -> str:
    """A document without its code, in which brackets mean something else."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def test_links_in_the_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#\s]+)", _prose(document.read_text(encoding="utf-8")))
        if "://" not in target and not (document.parent / target).exists()
    ]
    assert broken == []
