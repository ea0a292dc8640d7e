from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.audio.io import read_audio
from mynah.cli import sinks
from mynah.cli.progress import Progress
from mynah.cli.sinks import Speaker, WholeFile, open_sink
from mynah.errors import BackendError, InvalidRequestError, UnsupportedFeatureError

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
    sink, name = open_sink(None, RATE, stream=False, raw=False)
    with sink:
        pass
    assert (type(sink), name) == (Speaker, "the loudspeaker")
    monkeypatch.setattr(sinks, "can_play", lambda: False)
    sink, name = open_sink(None, RATE, stream=False, raw=False)
    with sink:
        sink.write(TONE)
    assert name == "speech.wav"
    assert len(read_audio("speech.wav")) == len(TONE)


def test_audio_is_never_printed_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with pytest.raises(InvalidRequestError, match="printed to the terminal"):
        open_sink("-", RATE, stream=True, raw=False)


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
        WholeFile(tmp_path / "a.xyz", RATE)


def test_progress_counts_without_a_terminal() -> None:
    with Progress() as progress:
        assert progress.real_time_factor == 0.0
        progress.update(1.5, 0.5)
        progress.update(0.5, 1.0)
    assert progress.audio_s == 2.0
    assert progress.real_time_factor == pytest.approx(progress.elapsed_s / 2, rel=0.5)
