"""How it is said, text that is still being written, and what a model can be told."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from mynah.audio import pcm
from mynah.audio.io import read_audio
from mynah.types import Audio
from tests.e2e.conftest import Command
from tests.official import released_folder

Message = Callable[[subprocess.CompletedProcess[bytes]], str]


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny CosyVoice 2 that was converted from a released folder; its path."""
    from mynah.ready import convert_folder

    folder = tmp_path_factory.mktemp("converted") / "second"
    return str(convert_folder(released_folder(2), folder).path)


def samples(command: Command, *words: str) -> bytes:
    result = command("say", *words, "--seed", "1", "-o", "-", "--raw")
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


def test_text_is_spoken_while_it_still_comes(command: Command) -> None:
    """As behind a language model: the first sentence is heard before the second is written."""
    words = ["say", "-", "--seed", "1", "-o", "-", "--raw"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with command.start(*words, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"The first sentence of this story is here now. It go")
        process.stdin.flush()
        heard = process.stdout.read(4000)
        assert len(heard) == 4000
        process.stdin.write("es on with caf\u00e9s.".encode()[:-2])
        process.stdin.write(b"s.")
        process.stdin.close()
        heard += process.stdout.read()
        assert process.wait(30) == 0
    whole = "The first sentence of this story is here now. It goes on with caf\u00e9s."
    assert heard == samples(command, whole)


def test_a_pipe_that_hangs_ends_with_its_time(command: Command, message: Message) -> None:
    words = ["say", "-", "--timeout", "1.5", "-o", "kept.wav"]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with command.start(*words, **pipes) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"The first sentence of this story is here now. And")
        process.stdin.flush()
        said = process.stderr.read().decode()
        assert process.wait(60) == 1
    assert "not finished within 1.5 s" in said


@pytest.mark.parametrize(
    ("stdin", "words", "said"),
    [
        ("", ["-"], "standard input is empty"),
        (" \n ", ["-"], "standard input is empty"),
        ("", ["-", "--no-split"], "text is empty"),
        ("gr\udcfcn", ["-"], "byte 0xfc behind 0 bytes"),
        ("...", ["-"], "nothing to say"),
    ],
)
def test_what_is_no_text_leaves_nothing_behind(
    command: Command, message: Message, stdin: str, words: list[str], said: str
) -> None:
    result = subprocess.run(
        command.arguments("say", *words, "-o", "x.wav"),
        input=stdin.encode("utf-8", "surrogateescape"),
        capture_output=True,
        cwd=command.folder,
        env=command.environment(),
        check=False,
    )
    assert result.returncode == 2
    assert said in message(result)
    assert list(command.folder.iterdir()) == []


def test_pronunciations_come_from_a_file(command: Command, message: Message) -> None:
    (command.folder / "names.txt").write_text('nginx\t"engine x"\n', encoding="utf-8")
    wanted = samples(command, 'Run nginx{"engine x"} now.')
    assert samples(command, "Run nginx now.", "--lexicon", "names.txt") == wanted
    assert samples(command, "Run nginx now.") != wanted
    (command.folder / "names.txt").write_text("nginx engine x\n", encoding="utf-8")
    wrong = command("say", "Run nginx now.", "--lexicon", "names.txt", "-o", "x.wav")
    assert wrong.returncode == 2
    assert "names.txt, line 1" in message(wrong)


def test_a_voice_keeps_its_pronunciations(command: Command, speechlike: Audio) -> None:
    (command.folder / "names.txt").write_text('nginx\t"engine x"\n', encoding="utf-8")
    speechlike.save(command.folder / "clip.wav")
    for name, more in (("plain", []), ("taught", ["--lexicon", "names.txt"])):
        assert command("voices", "add", name, "clip.wav", *more).returncode == 0
    wanted = samples(command, 'Run nginx{"engine x"} now.', "-v", "plain")
    assert samples(command, "Run nginx now.", "-v", "taught") == wanted
    assert samples(command, "Run nginx now.", "-v", "plain") != wanted
    wrong = command("voices", "add", "other", "clip.wav", "--lexicon", "gone.txt")
    assert wrong.returncode == 2
    assert b"other" not in command("voices", "list").stdout


def test_numbers_and_sentences_are_left_alone_when_asked(command: Command) -> None:
    text = "He has 12 dogs and they bark all day long. It is loud in there, every day of the week."
    whole = samples(command, text)
    assert samples(command, text, "--no-normalize") != whole
    assert samples(command, text, "--no-split") != whole


def test_how_it_is_said_reaches_the_model(command: Command, second: str) -> None:
    text, model = "Hello there.", ["-m", second, "-v", "my_zero_shot_spk"]
    told = samples(command, text, *model, "--emotion", "happy")
    sentence = "\u7528\u5f00\u5fc3\u7684\u8bed\u6c14\u8bf4"
    assert samples(command, text, *model, "--instruction", sentence) == told
    assert samples(command, text, *model, "--mode", "instruct", "--emotion", "happy") == told
    assert samples(command, text, *model, "--dialect", "sichuanese") != told
    assert samples(command, text, *model, "--mode", "cross_lingual") != told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mode", "sad"], "choose one of sft, zero_shot"),
        (["--instruction", "Be sad."], "takes no instruction"),
        (["--emotion", "sad"], "knows no emotions"),
        (["--emotion", "sad", "--instruction", "Be sad."], "cannot be mixed"),
        (["--timeout", "0"], "timeout_s 0"),
        (["--lexicon", "gone.txt"], "cannot read the lexicon gone.txt"),
    ],
)
def test_wrong_wishes_end_with_a_message_and_code_2(
    command: Command, message: Message, words: list[str], said: str
) -> None:
    result = command("say", "Hello", *words, "-o", "x.wav")
    assert result.returncode == 2
    assert said in message(result)
    assert list(command.folder.iterdir()) == []


def test_a_recording_is_said_again_with_another_voice(
    command: Command, message: Message, speechlike: Audio
) -> None:
    clip = speechlike.save(command.folder / "clip.wav")
    again = ("revoice", "clip.wav", "--voice", "tiny", "--seed", "1", "-o")
    result = command(*again, "out.wav")
    assert result.returncode == 0, message(result)
    assert "-> out.wav" in message(result)
    made = read_audio(command.folder / "out.wav")
    assert made.duration_s == pytest.approx(read_audio(clip).duration_s, abs=0.1)
    whole = (command.folder / "out.wav").read_bytes()[pcm.WAV_HEADER_BYTES :]
    assert command(*again, "-", "--raw").stdout == whole
    missing = command("revoice", "gone.wav", "-o", "x.wav")
    assert missing.returncode == 2
    assert "no file gone.wav" in message(missing)


def test_styles_lists_what_a_model_can_be_told(command: Command, second: str) -> None:
    known = json.loads(command("styles", "-m", second, "--json").stdout)
    assert known["instructions"] is True
    assert {"happy", "sad"} <= set(known["emotions"])
    assert "cantonese" in known["dialects"]
    assert "robot" in known["styles"]
    assert {"[laughter]", "<strong>"} <= set(known["tags"])
    shown = command("styles", "-m", second).stdout.decode()
    assert "happy sad" in shown
    small = json.loads(command("styles", "--json").stdout)
    assert small["instructions"] is False
    assert small["emotions"] == small["tags"] == []


def test_normalize_shows_how_a_text_would_be_read(command: Command, message: Message) -> None:
    text = 'I paid $5 to Dr. Smith. It is nginx{"engine x"}, he said on Jan 3, and then he left.'
    result = command("normalize", text)
    assert result.returncode == 0, message(result)
    lines = result.stdout.decode().splitlines()
    assert lines[0].startswith("I paid five dollars to Doctor Smith.")
    assert "engine x" in result.stdout.decode()
    assert "ids\t" in lines[0]
    found = json.loads(command("normalize", "-", "--json", stdin=text).stdout)
    assert "".join(part["text"] for part in found) == text
    assert all(part["ids"] > 5 for part in found)
    (whole,) = json.loads(command("normalize", text, "--no-split", "--json").stdout)
    assert whole["text"] == text
    (command.folder / "names.txt").write_text('nginx\t"engine x"\n', encoding="utf-8")
    told = command("normalize", "Run nginx now.", "--lexicon", "names.txt").stdout.decode()
    assert told.startswith("Run engine x now.")
    wrong = command("normalize", "Hello [laughing].")
    assert wrong.returncode == 2
    assert "unknown tag" in message(wrong)


def test_every_command_has_help(command: Command) -> None:
    for words in (("say",), ("revoice",), ("styles",), ("normalize",)):
        result = command(*words, "--help")
        assert result.returncode == 0
        assert b"--model" in result.stdout
