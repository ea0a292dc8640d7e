from __future__ import annotations

import errno
import os
import sys
import tempfile
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.audio.io import read_audio
from mynah.cli import sinks
from mynah.cli.places import check_folder
from mynah.cli.progress import Progress
from mynah.cli.sinks import Speaker, WholeFile, choose_sink
from mynah.errors import (
    BackendError,
    InvalidRequestError,
    OutputError,
    UnsupportedFeatureError,
)

RATE = 24000
TONE = np.sin(np.arange(2400) / 10).astype(np.float32) * np.float32(0.5)


class _Device:
    """Stands for the sound card: pulls blocks in a thread, as PortAudio does."""

    played: list[float]

    def __init__(self, rate: int, channels: int, dtype: str, callback: Callable[..., None]) -> None:
        assert (rate, channels, dtype) == (RATE, 1, "float32")
        self._callback = callback
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._pull)
        type(self).played = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def abort(self, ignore_errors: bool) -> None:
        self.stop()

    def close(self, ignore_errors: bool) -> None:
        pass

    def _pull(self) -> None:
        while not self._stopping.wait(0.001):
            block = np.full((1000, 1), np.nan, np.float32)
            self._callback(block, 1000, None, None)
            self.played.extend(block[:, 0].tolist())


@pytest.fixture
def sound_card(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("sounddevice")
    module.OutputStream = _Device  # type: ignore[attr-defined] # a stand-in
    module.PortAudioError = type("PortAudioError", (Exception,), {})  # type: ignore[attr-defined] # a stand-in
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def test_the_loudspeaker_plays_everything_in_order(sound_card: types.ModuleType) -> None:
    with Speaker(RATE) as speaker:
        for start in range(0, len(TONE), 700):
            speaker.write(TONE[start : start + 700])
    heard = np.array(_Device.played, np.float32)
    assert np.isfinite(heard).all()
    np.testing.assert_array_equal(heard[np.flatnonzero(heard)], TONE[np.flatnonzero(TONE)])


def test_the_loudspeaker_stops_at_once_on_ctrl_c(sound_card: types.ModuleType) -> None:
    def interrupted() -> None:
        with Speaker(RATE) as speaker:
            speaker.write(np.ones(10_000_000, np.float32))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(_Device.played) < 10_000_000


def test_a_busy_sound_card_is_reported(
    sound_card: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*args: Any, **kwargs: Any) -> None:
        raise sound_card.PortAudioError("device busy")

    monkeypatch.setattr(sound_card, "OutputStream", busy)
    with pytest.raises(BackendError, match="device busy"):
        Speaker(RATE)


def test_without_output_a_terminal_with_sound_plays(
    sound_card: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sinks, "can_play", lambda: True)
    open_sink, name = choose_sink(None, stream=False, raw=False)
    with open_sink(RATE) as sink:
        pass
    assert (type(sink), name) == (Speaker, "the loudspeaker")
    monkeypatch.setattr(sinks, "can_play", lambda: False)
    open_sink, name = choose_sink(None, stream=False, raw=False)
    with open_sink(RATE) as sink:
        sink.write(TONE)
    assert name == "speech.wav"
    assert len(read_audio("speech.wav")) == len(TONE)


def test_audio_is_never_printed_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with pytest.raises(InvalidRequestError, match="printed to the terminal"):
        choose_sink("-", stream=True, raw=False)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("gone/a.wav", "gone/a.wav.*the folder does not exist: create it first"),
        ("gone/a.mp3", "gone/a.mp3.*the folder does not exist"),
        ("there", "there.*that is a folder: add a file name"),
        ("new/", "new/ names a folder.*add a file name"),
        ("file/a.wav", "file/a.wav.*a part of the path is a file"),
        ("file/a.flac", "file/a.flac.*a part of the path is a file"),
        (f"{'x' * 300}.wav", "the file name is too long"),
        ("a.xyz", "cannot write .xyz files"),
    ],
)
def test_a_wrong_place_is_a_wrong_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequestError, match=said):
        choose_sink(output, stream=False, raw=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there"]


def test_looking_at_a_place_changes_nothing(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac"):
        (tmp_path / name).write_bytes(b"older")
        choose_sink(str(tmp_path / name), stream=False, raw=False)
        assert (tmp_path / name).read_bytes() == b"older"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    for name in ("a.wav", "a.ogg"):
        with pytest.raises(InvalidRequestError, match="choose a folder that you may write to"):
            choose_sink(str(tmp_path / name), stream=False, raw=False)
    with pytest.raises(InvalidRequestError, match="choose a folder that you may write to"):
        check_folder(tmp_path / "new" / "folder")
    tmp_path.chmod(0o755)


def test_folders_that_need_not_exist_yet(tmp_path: Path) -> None:
    assert check_folder(tmp_path / "new" / "folder") == tmp_path / "new" / "folder"
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(InvalidRequestError, match="is a file, not a folder"):
            check_folder(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_no_wrong_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(dir: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(OutputError, match="the disk is full"):
        choose_sink(str(tmp_path / "a.wav"), stream=False, raw=False)


def test_a_whole_file_is_kept_on_ctrl_c(tmp_path: Path) -> None:
    target = tmp_path / "a.flac"

    def interrupted() -> None:
        with WholeFile(target, RATE) as sink:
            sink.write(TONE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(read_audio(target)) == len(TONE)
    with pytest.raises(UnsupportedFeatureError, match=r"\.xyz"):
        choose_sink(str(tmp_path / "a.xyz"), stream=False, raw=False)


def test_progress_counts_without_a_terminal() -> None:
    with Progress() as progress:
        assert progress.real_time_factor == 0.0
        progress.update(1.5, 0.5)
        progress.update(0.5, 1.0)
    assert progress.audio_s == 2.0
    assert progress.real_time_factor == pytest.approx(progress.elapsed_s / 2, rel=0.5)
