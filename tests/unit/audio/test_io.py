from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mynah.audio.io import FORMATS, encode_audio, read_audio, write_audio
from mynah.errors import (
    InvalidRequestError,
    OutputError,
    PromptAudioError,
    UnsupportedFeatureError,
)
from mynah.types import Audio


def _tone(rate: int = 24000, seconds: float = 0.5) -> Audio:
    time = np.arange(round(rate * seconds)) / rate
    return Audio((0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32), rate)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_can_be_written_and_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"tone.{kind}"
    assert _tone().save(path) == path
    back = read_audio(path)
    assert back.sample_rate == 24000 or kind == "opus"  # Opus decodes at its own rate
    assert abs(back.duration_s - 0.5) < 0.1
    assert 0.15 < np.sqrt(np.mean(back.samples**2)) < 0.25
    assert os.listdir(tmp_path) == [path.name]


def test_rates_a_format_does_not_know_are_resampled() -> None:
    back = read_audio(encode_audio(_tone(22050), "opus"))
    assert abs(back.duration_s - 0.5) < 0.1


def test_a_path_bytes_and_a_file_are_the_same(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", _tone())
    expected = read_audio(path).samples
    for source in (str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        np.testing.assert_array_equal(read_audio(source).samples, expected)
    with open(path, "rb") as stream:
        np.testing.assert_array_equal(read_audio(stream).samples, expected)


def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = np.stack([np.full(100, 0.5), np.full(100, -0.25)], axis=1)
    soundfile.write(tmp_path / "s.wav", stereo, 16000)
    np.testing.assert_array_equal(read_audio(tmp_path / "s.wav").samples, np.float32(0.125))


def _bad_files(folder: Path) -> dict[str, Any]:
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("this is no sound\n" * 20)
    (folder / "bare.raw").write_bytes(bytes(1000))
    (folder / "cut.flac").write_bytes(encode_audio(_tone(), "flac")[:30])
    soundfile.write(folder / "none.wav", np.zeros(0), 16000)
    soundfile.write(folder / "nan.wav", np.full(9, np.nan), 16000, subtype="FLOAT")
    return {
        "there is no file": folder / "missing.wav",
        "cannot read .*: Is a directory": folder,
        f"^{folder / 'empty.wav'} is empty": folder / "empty.wav",
        "text.wav is not a sound file": folder / "text.wav",
        "bare.raw is not a sound file": folder / "bare.raw",
        "cut.flac": folder / "cut.flac",
        "none.wav holds no samples": folder / "none.wav",
        "nan.wav holds 9 NaN": folder / "nan.wav",
        "prompt audio is empty": b"",
        "cannot read": "a\0b",
    }


@pytest.mark.parametrize("number", range(10))
def test_what_cannot_be_read_is_named_with_a_cure(tmp_path: Path, number: int) -> None:
    message, source = list(_bad_files(tmp_path).items())[number]
    with pytest.raises(PromptAudioError, match=message) as caught:
        read_audio(source)
    assert caught.value.hint


def test_a_recording_without_end_is_refused(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "long.wav", _tone(8000, 3.0))
    with pytest.raises(PromptAudioError, match=r"3\.0 s long, the limit is 2 s"):
        read_audio(path, max_duration_s=2)


def test_only_binary_sources_are_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="opened as text"):
        read_audio(io.StringIO("x"))  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(InvalidRequestError, match="from int"):
        read_audio(3)  # type: ignore[arg-type]  # the point of the test


def test_an_unknown_suffix_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFeatureError, match=r"cannot write \.txt .*\.flac"):
        _tone().save(tmp_path / "a.txt")
    with pytest.raises(UnsupportedFeatureError, match="unknown audio format 'au'"):
        encode_audio(_tone(), "au")


def test_a_missing_folder_is_named_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere.*create it first"):
        _tone().save(tmp_path / "nowhere" / "a.wav")
    with pytest.raises(OutputError, match="add a file name"):
        write_audio(tmp_path, _tone(), kind="wav")
    with pytest.raises(OutputError, match="cannot write"):
        write_audio("a\0b.wav", _tone())


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_audio(tmp_path / "a.wav", _tone())
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full") as caught:
        write_audio(path, _tone(seconds=1.0))
    assert isinstance(caught.value, OSError)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.wav"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_devices_are_written_directly() -> None:
    write_audio("/dev/null", _tone())
    with pytest.raises(OutputError, match="disk is full"):
        write_audio("/dev/full", _tone(seconds=2.0))


def test_links_are_followed(tmp_path: Path) -> None:
    real = write_audio(tmp_path / "real.wav", _tone())
    link = tmp_path / "link.wav"
    try:
        link.symlink_to(real)
    except OSError:
        pytest.skip("no symbolic links here")
    write_audio(link, _tone(seconds=1.0))
    assert link.is_symlink()
    assert read_audio(real).duration_s == 1.0
