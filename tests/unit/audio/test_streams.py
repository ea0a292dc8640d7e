from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.audio import pcm, streams
from mynah.audio.io import read_audio
from mynah.audio.streams import PipeWriter, WavWriter, open_wav
from mynah.errors import OutputError, UnsupportedFeatureError

PIECE = np.linspace(-0.5, 0.5, 480, dtype=np.float32)


def test_the_file_plays_after_every_piece(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with WavWriter(path, 24000) as writer:
        for count in range(1, 4):
            writer.write(PIECE)
            assert len(read_audio(path)) == count * 480
    np.testing.assert_array_equal(
        read_audio(path).samples, pcm.int16_to_float(pcm.float_to_int16(np.tile(PIECE, 3)))
    )
    assert os.listdir(tmp_path) == ["a.wav"]


def test_ctrl_c_leaves_a_playable_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"

    def interrupted() -> None:
        with WavWriter(path, 24000) as writer:
            writer.write(PIECE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(read_audio(path)) == 480


def test_a_failure_before_the_first_sample_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"older")

    def failing() -> None:
        with WavWriter(path, 24000) as writer:
            writer.write(PIECE[:0])
            raise ValueError("bad text")

    with pytest.raises(ValueError, match="bad text"):
        failing()
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["a.wav"]


def test_no_samples_make_a_valid_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with WavWriter(path, 24000):
        pass
    assert path.read_bytes() == pcm.wav_header(24000, 0)


def test_a_full_disk_removes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = WavWriter(tmp_path / "a.wav", 24000)
    writer.write(PIECE)

    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert writer._stream is not None
    writer._stream.close()
    monkeypatch.setattr(writer, "_stream", Full())
    with pytest.raises(OutputError, match="disk is full"):
        writer.write(PIECE)
    assert os.listdir(tmp_path) == []
    writer.close()  # harmless


def test_an_unwritable_place_is_found_at_once(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="create it first"):
        WavWriter(tmp_path / "nowhere" / "a.wav", 24000)
    with pytest.raises(OutputError, match="add a file name"):
        open_wav(tmp_path, 24000)
    with pytest.raises(UnsupportedFeatureError, match=r"\.mp3 files cannot"):
        open_wav(tmp_path / "a.mp3", 24000)


def test_a_pipe_gets_wav_of_unknown_length_or_bare_samples() -> None:
    wav, raw = io.BytesIO(), io.BytesIO()
    for stream, container in ((wav, "wav"), (raw, "raw")):
        with PipeWriter(stream, 24000, container) as writer:  # type: ignore[arg-type]  # literal
            writer.write(PIECE)
            assert writer.num_samples == 480
    assert raw.getvalue() == pcm.to_bytes(PIECE)
    assert wav.getvalue() == pcm.wav_header(24000) + raw.getvalue()
    assert len(read_audio(wav.getvalue())) == 480


def test_a_slow_pipe_gets_everything() -> None:
    class Slow(io.BytesIO):
        def write(self, data: Any) -> int:
            return super().write(bytes(data)[:100])

    stream = Slow()
    PipeWriter(stream, 24000, "raw").write(PIECE)
    assert stream.getvalue() == pcm.to_bytes(PIECE)


def test_a_closed_pipe_is_an_output_error() -> None:
    class Closed(io.BytesIO):
        def write(self, data: Any) -> int:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    with pytest.raises(OutputError, match="closed the pipe") as caught:
        PipeWriter(Closed(), 24000)
    assert isinstance(caught.value.__cause__, BrokenPipeError)


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs /dev/null")
def test_devices_are_opened_as_pipes() -> None:
    with streams.open_wav("/dev/null", 24000) as writer:
        writer.write(PIECE)
    assert isinstance(writer, PipeWriter)
    assert writer._stream.closed
