from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from mynah.audio import pcm
from mynah.audio.io import read_audio
from tests.e2e.conftest import Command

HELLO = "Hello, this is a mynah."
LONG = " ".join(f"This is sentence number {number} of a long story." for number in range(300))

Message = Callable[[subprocess.CompletedProcess[bytes]], str]
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes of POSIX")


@pytest.fixture
def in_the_background() -> Iterator[None]:
    """Ignore Ctrl-C, as tests do that a script runs with ``&``."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


def test_without_output_a_file_is_written(command: Command, message: Message) -> None:
    result = command("say", HELLO, "--seed", "1")
    assert result.returncode == 0, message(result)
    assert result.stdout == b""
    assert "-> speech.wav" in message(result)
    audio = read_audio(command.folder / "speech.wav")
    assert audio.sample_rate == 24000
    assert audio.duration_s > 0.2
    assert np.abs(audio.samples).max() > 1e-4
    assert [path.name for path in command.folder.iterdir()] == ["speech.wav"]


def test_every_way_out_gives_the_same_samples(command: Command) -> None:
    assert command("say", HELLO, "--seed", "3", "-o", "whole.wav").returncode == 0
    whole = (command.folder / "whole.wav").read_bytes()
    piped = command("say", HELLO, "--seed", "3", "-o", "-")
    assert piped.stdout == whole
    assert piped.stderr == b""
    streamed = command("say", HELLO, "--seed", "3", "--stream").stdout
    assert streamed[pcm.WAV_HEADER_BYTES :] == whole[pcm.WAV_HEADER_BYTES :]
    raw = command("say", HELLO, "--seed", "3", "-o", "-", "--raw").stdout
    assert raw == whole[pcm.WAV_HEADER_BYTES :]
    assert command("say", HELLO, "--seed", "3", "-o", "whole.flac").returncode == 0
    flac = read_audio(command.folder / "whole.flac").samples
    np.testing.assert_array_equal(flac, read_audio(command.folder / "whole.wav").samples)


def test_text_comes_from_argument_file_or_pipe(command: Command) -> None:
    (command.folder / "story.txt").write_text(HELLO, encoding="utf-8")
    expected = command("say", HELLO, "--seed", "2", "-o", "-").stdout
    for words, stdin in (
        (["--file", "story.txt"], ""),
        (["-"], HELLO),
        ([], HELLO),
        (["--file", "-"], HELLO),
    ):
        assert command("say", *words, "--seed", "2", "-o", "-", stdin=stdin).stdout == expected


def test_speed_changes_the_length(command: Command) -> None:
    slow, fast = (
        len(command("say", HELLO, "--seed", "1", "-o", "-", "--speed", speed).stdout)
        for speed in ("0.5", "2")
    )
    assert slow == pytest.approx(4 * fast, rel=0.1)


def test_the_torch_backend_says_the_same(command: Command) -> None:
    onnx, torch = (
        command("say", HELLO, "--seed", "1", "-o", "-", "--raw", "--backend", backend).stdout
        for backend in ("onnx", "torch")
    )
    difference = pcm.from_bytes(onnx) - pcm.from_bytes(torch)
    assert np.abs(difference).max() < 1e-3  # measured 1e-4


def test_long_text_is_spoken_to_its_end(command: Command, message: Message) -> None:
    text = " ".join(["This is one of ten sentences that follow each other."] * 10)
    result = command("say", "--file", "-", "-o", "long.wav", "--seed", "1", stdin=text)
    assert result.returncode == 0, message(result)
    one = command("say", text[: len(text) // 10], "-o", "-", "--seed", "1").stdout
    assert (command.folder / "long.wav").stat().st_size > 8 * len(one)


def test_streaming_begins_before_the_speech_is_made(command: Command) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with command.start("say", LONG, "--stream", "-o", "-", **pipes) as process:
        assert process.stdout is not None
        assert len(process.stdout.read(4096)) == 4096
        assert process.poll() is None


@posix_only
def test_a_reader_that_leaves_ends_the_command_quietly(command: Command) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with command.start("say", LONG, "--stream", "-o", "-", **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1000)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


@posix_only
@pytest.mark.usefixtures("in_the_background")
@pytest.mark.parametrize("name", ["story.wav", "story.flac"])
def test_ctrl_c_stops_at_once_and_leaves_a_playable_file(command: Command, name: str) -> None:
    target = command.folder / name
    with command.start("say", LONG, "-o", name, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        _wait_until(lambda: _started(target) or process.poll() is not None)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
        assert process.stderr.read().decode().strip() == "stopped"
    # Measured in speech, not on a clock: the whole story has 650 s, and takes 16 s of computing.
    assert 0.1 < read_audio(target).duration_s < 400
    assert [path.name for path in command.folder.iterdir()] == [name]


@posix_only
def test_progress_is_shown_on_a_terminal_only(command: Command) -> None:
    import pty

    leader, follower = pty.openpty()
    with open(leader, "rb", buffering=0) as screen, ExitStack() as running:
        with open(follower, "wb", buffering=0) as terminal:
            started = running.enter_context(
                command.start("say", HELLO, "-o", "hello.wav", stderr=terminal)
            )
        shown = b""
        try:
            while piece := screen.read(1024):
                shown += piece
        except OSError:  # Linux says so when the last writer has closed the terminal
            pass
        assert started.wait(30) == 0
    assert b"speaking" in shown
    assert b"x real time" in shown
    assert command("say", HELLO, "-o", "hello.wav", "-q").stderr == b""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([""], "text is empty"),
        (["..."], "nothing to say"),
        (["\U0001f600\U0001f600"], "nothing to say"),
        (["\u4f60\u597d"], "Mandarin"),
        (["Hello <|endofprompt|> there"], "<|endofprompt|>"),
        (["Hello", "--speed", "9"], "speed 9.0 is out of range"),
        (["Hello", "--speed", "nan"], "speed nan is out of range"),
        (["Hello", "--seed", "-1"], "seed -1"),
        (["Hello", "--voice", "tinny"], "did you mean tiny?"),
        (["Hello", "--voice", "gone.wav"], "no file gone.wav"),
        (["Hello", "--transcript", "words"], "not a recording"),
        (["Hello", "--language", "xx yy"], "xx yy"),
        (["Hello", "--model", "nanno"], "did you mean nano?"),
        (["Hello", "--backend", "tensor"], "no backend 'tensor'"),
        (["Hello", "--threads", "0"], "threads is 0"),
        (["Hello", "-o", "hello.xyz"], "cannot write .xyz"),
        (["Hello", "-o", "gone/hello.wav"], "the folder does not exist"),
        (["Hello", "-o", "gone/hello.flac"], "the folder does not exist"),
        (["Hello", "-o", "."], "that is a folder"),
        # before a model is even looked for
        (["Hello", "-o", "gone/hello.wav", "-m", "none"], "the folder does not exist"),
        (["Hello", "-o", "hello.mp3", "--stream"], ".mp3 files cannot be written while"),
        (["Hello", "--raw", "-o", "hello.wav"], "--raw"),
        (["Hello", "--file", "gone.txt"], "both a text and --file"),
        (["--file", "gone.txt"], "cannot read gone.txt"),
        (["Hello", "--nonsense"], "No such option"),
    ],
)
def test_mistakes_end_with_a_message_and_code_2(
    command: Command, message: Message, words: list[str], said: str
) -> None:
    result = command("say", *words)
    assert result.returncode == 2
    assert said in message(result)
    assert list(command.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["Hello", "--device", "cuda"], "does not run on 'cuda'"),
    ],
)
def test_failures_end_with_a_message_and_code_1(
    command: Command, message: Message, words: list[str], said: str
) -> None:
    result = command("say", *words)
    assert result.returncode == 1
    assert said in message(result)
    assert list(command.folder.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_is_reported(command: Command, message: Message) -> None:
    result = command("say", HELLO, "-o", "/dev/full")
    assert result.returncode == 1
    assert "the disk is full" in message(result)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
@pytest.mark.parametrize("words", [("say", HELLO, "-o", "-"), ("voices", "list")])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_standard_output_is_reported(
    command: Command, words: tuple[str, ...], unbuffered: str
) -> None:
    command.variables["PYTHONUNBUFFERED"] = unbuffered
    with (
        open("/dev/full", "wb") as full,
        command.start(*words, stdout=full, stderr=subprocess.PIPE) as process,
    ):
        said = process.communicate(timeout=60)[1].decode()
    assert said.startswith("error: cannot write standard output: ")
    assert process.returncode == 1


@posix_only
def test_closed_standard_streams_are_no_bug(command: Command) -> None:
    line = 'exec "$@" <&- >&-'
    for words, code in ((("say", "-o", "a.wav"), 2), (("say", HELLO), 0)):
        result = subprocess.run(
            ["sh", "-c", line, "sh", *command.arguments(*words)],
            stderr=subprocess.PIPE,
            cwd=command.folder,
            env=command.environment(),
            timeout=60,
            check=False,
        )
        assert result.returncode == code, result.stderr
    assert read_audio(command.folder / "speech.wav").duration_s > 0


def test_too_much_text_is_refused(command: Command, message: Message) -> None:
    result = command("say", "-o", "book.wav", stdin="word " * 2_000_000)
    assert result.returncode == 2
    assert "1000000 characters" in message(result)
    assert list(command.folder.iterdir()) == []


def test_text_that_is_not_utf8_is_refused(command: Command, message: Message) -> None:
    (command.folder / "old.txt").write_bytes("gr\u00fcn".encode("latin1"))
    result = command("say", "--file", "old.txt")
    assert result.returncode == 2
    assert "byte 0xfc at position 2" in message(result)


def test_debug_shows_the_traceback(command: Command) -> None:
    result = command("--debug", "say", "")
    assert result.returncode == 2
    assert b"Traceback" in result.stderr


def _started(target: Path) -> bool:
    """Whether audio is in the file, or being collected for it."""
    if target.suffix != ".wav":
        time.sleep(2.5)
        return True
    return target.exists() and target.stat().st_size > pcm.WAV_HEADER_BYTES


def _wait_until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
