"""CosyVoice's gRPC service, called as its own clients do: by names, numbers and bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import mynah.server
from mynah.api import TTS
from mynah.audio.io import read_audio
from mynah.audio.resample import resample
from mynah.engine.admission import Limits
from mynah.server.grpc_messages import MESSAGES, ONE_OF
from mynah.server.grpc_service import GrpcServer, start_grpc
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings
from tests.fake_model import fake_tts
from tests.server.loops import Engine, LoopThread, loop_thread

TEXT = "Hello there."
LONG = "This goes on for quite a while, with many words in it. " * 30
METHOD = "/cosyvoice.CosyVoice/Inference"


def field(number: int, value: str | bytes | int) -> bytes:
    """One field on the wire, by nothing but its number."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def float_field(number: int, value: float) -> bytes:
    return varint(number << 3 | 5) + np.float32(value).tobytes()


def double_field(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + np.float64(value).tobytes()


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def audio_of(message: bytes) -> bytes:
    """The bytes of a response that holds field 1 and nothing else."""
    assert message[0] == 1 << 3 | 2
    size, shift, at = 0, 0, 1
    while True:
        size |= (message[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if message[at - 1] < 0x80:
            break
    assert len(message) == at + size
    return message[at:]


def sft(text: str = TEXT, voice: str = "", options: bytes = b"") -> bytes:
    request = field(1, field(1, voice) + field(2, text))
    return request + (field(10, options) if options else b"")


@pytest.fixture(scope="module")
def tts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TTS]:
    with fake_tts(tmp_path_factory.mktemp("voices")) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def loop() -> Iterator[LoopThread]:
    with loop_thread() as running:
        yield running


def serve(loop: LoopThread, runtime: Runtime, **options: Any) -> GrpcServer:
    return loop.run(start_grpc(runtime, port=0, **options))


@pytest.fixture(scope="module")
def server(tts: TTS, loop: LoopThread) -> Iterator[GrpcServer]:
    runtime = Runtime(ServerSettings(max_text_characters=5000), loaded={"fake": tts})
    server = serve(loop, runtime)
    yield server
    loop.run(server.aclose())


def call(server: GrpcServer, request: bytes, **options: Any) -> Any:
    channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
    return channel.unary_stream(METHOD)(request, timeout=60, **options)


def slow_channel(server: GrpcServer) -> Any:
    """A channel that takes little before it is read from."""
    return grpc.insecure_channel(
        f"127.0.0.1:{server.port}",
        options=[("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)],
    )


def samples_of(messages: list[bytes]) -> Any:
    return np.frombuffer(b"".join(map(audio_of, messages)), "<i2")


def test_the_messages_are_those_of_the_file() -> None:
    text = (Path(mynah.server.__file__).parent / "cosyvoice.proto").read_text()
    found: dict[str, list[tuple[str, ...]]] = {}
    group = ""
    for line in re.sub(r"//.*", "", text).splitlines():
        if started := re.match(r"message (\w+)", line):
            found[started[1]] = []
        elif started := re.match(r"\s+oneof (\w+)", line):
            group = started[1]
        elif re.match(r"\s+}", line):
            group = ""
        elif entry := re.match(r"\s+(optional |repeated )?(\w+) (\w+) = (\d+);", line):
            kind = entry[1].strip() if entry[1] else group
            row = (entry[3], int(entry[4]), entry[2], *([kind] if kind else []))
            found[list(found)[-1]].append(row)
    assert {name: sorted(rows) for name, rows in found.items()} == {
        name: sorted(rows) for name, rows in MESSAGES.items()
    }


def test_official_numbers_are_kept() -> None:
    """Names and numbers that clients in the world have compiled in."""
    official = {
        "sftRequest": {"spk_id": 1, "tts_text": 2},
        "zeroshotRequest": {"tts_text": 1, "prompt_text": 2, "prompt_audio": 3},
        "crosslingualRequest": {"tts_text": 1, "prompt_audio": 2},
        "instructRequest": {"tts_text": 1, "spk_id": 2, "instruct_text": 3},
        "Response": {"tts_audio": 1},
    }
    for name, fields in official.items():
        ours = {row[0]: row[1] for row in MESSAGES[name] if row[1] < 10}
        assert ours == fields
    choices = {row[0]: row[1] for row in MESSAGES["Request"] if row[-1] == ONE_OF}
    assert choices | {"instruct2_request": 5} == {
        "sft_request": 1,
        "zero_shot_request": 2,
        "cross_lingual_request": 3,
        "instruct_request": 4,
        "instruct2_request": 5,
    }


def test_sft_gives_the_samples_of_the_engine(server: GrpcServer, tts: TTS) -> None:
    answer = call(server, sft(voice="fake", options=field(2, 7)))
    got = samples_of(list(answer))
    wanted = tts.synthesize(TEXT, "fake", mode="sft", seed=7).samples
    np.testing.assert_allclose(got / 32768, wanted, atol=1 / 32768)
    facts = dict(answer.initial_metadata())
    assert facts["mynah-sample-rate"] == "24000"
    assert facts["mynah-seed"] == "7"


def test_speed_and_sentences(server: GrpcServer, tts: TTS) -> None:
    text = "This is a first sentence of some length. " * 6
    request = sft(text, "fake", field(2, 1) + field(3, 0) + float_field(1, 1.5))
    messages = list(call(server, request))
    assert 2 <= len(messages) < 6
    fast = tts.synthesize(text, "fake", mode="sft", seed=1, speed=1.5).samples
    assert len(samples_of(messages)) == len(fast)


def test_a_lexicon_for_one_call(loop: LoopThread, tiny_models: dict[str, TTS]) -> None:
    tts = tiny_models["tiny"]
    server = serve(loop, Runtime(ServerSettings(), loaded={"tiny": tts}))
    voice = tts.voices.names()[0]
    entries = b"".join(
        field(6, field(1, word) + field(2, said)) for word, said in (("nginx", '"engine x"'),)
    )
    got = samples_of(list(call(server, sft("We use nginx.", voice, field(2, 7) + entries))))
    plain = samples_of(list(call(server, sft("We use nginx.", voice, field(2, 7)))))
    wanted = tts.synthesize("We use engine x.", voice, mode="sft", seed=7).samples
    np.testing.assert_allclose(got / 32768, wanted, atol=1 / 32768)
    assert len(plain) != len(got) or not np.array_equal(plain, got)
    loop.run(server.aclose())


def test_a_call_may_say_how_long_it_takes(server: GrpcServer, tts: TTS) -> None:
    with Engine(tts) as engine:
        with pytest.raises(grpc.RpcError) as caught:
            list(call(server, sft(LONG, "fake", double_field(7, 0.001))))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert dict(caught.value.trailing_metadata())["mynah-error"] == "deadline"
        engine.wait_for("cancelled")
    assert list(call(server, sft(TEXT, "fake", double_field(7, 60.0))))


def test_the_deadline_of_a_call_ends_its_work(server: GrpcServer, tts: TTS) -> None:
    channel = slow_channel(server)
    with Engine(tts) as engine:
        answer = channel.unary_stream(METHOD)(sft(LONG, "fake"), timeout=1.0)
        next(answer)
        engine.wait_for("cancelled")
        assert answer.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    channel.close()


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("payload", ["zero_shot", "cross_lingual"])
def test_a_recording_as_bare_samples(
    server: GrpcServer, recording: bytes, payload: str, as_file: bool
) -> None:
    audio = read_audio(recording)
    at_16k = resample(audio.samples, audio.sample_rate, 16000)
    prompt = recording if as_file else (at_16k * 32000).astype("<i2").tobytes()
    if payload == "zero_shot":
        request = field(2, field(1, TEXT) + field(2, "what was said") + field(3, prompt))
    else:
        request = field(3, field(1, TEXT) + field(2, prompt))
    assert len(samples_of(list(call(server, request)))) > 2400


def test_a_saved_voice_instead_of_a_recording(server: GrpcServer, tts: TTS) -> None:
    for number in (2, 3):
        request = field(number, field(1, TEXT) + field(10, "fake"))
        assert len(samples_of(list(call(server, request)))) > 2400


@pytest.mark.parametrize(
    ("request_bytes", "code", "error"),
    [
        (b"", grpc.StatusCode.INVALID_ARGUMENT, "invalid_request"),
        (sft(""), grpc.StatusCode.INVALID_ARGUMENT, "invalid_request"),
        (sft(TEXT), grpc.StatusCode.INVALID_ARGUMENT, "invalid_request"),
        (sft(TEXT, "nobody"), grpc.StatusCode.NOT_FOUND, "unknown_voice"),
        (sft(TEXT, "../nobody"), grpc.StatusCode.NOT_FOUND, "unknown_voice"),
        (sft("x " * 3000, "nobody"), grpc.StatusCode.INVALID_ARGUMENT, "invalid_request"),
        (
            sft(TEXT, "nobody", field(5, "no-model")),
            grpc.StatusCode.NOT_FOUND,
            "model_not_found",
        ),
        (sft(TEXT, "x", float_field(1, 9.0)), grpc.StatusCode.INVALID_ARGUMENT, "invalid_request"),
        (
            sft(TEXT, "x", float_field(1, float("nan"))),
            grpc.StatusCode.INVALID_ARGUMENT,
            "invalid_request",
        ),
        *(
            (
                sft(TEXT, "fake", double_field(7, wrong)),
                grpc.StatusCode.INVALID_ARGUMENT,
                "invalid_request",
            )
            for wrong in (0.0, -1.0, 86401.0, float("nan"), float("inf"))
        ),
        (
            sft(TEXT, "fake", field(6, field(1, "friend") + field(2, "no sound"))),
            grpc.StatusCode.INVALID_ARGUMENT,
            "invalid_request",
        ),
        (
            sft(
                TEXT,
                "fake",
                b"".join(field(6, field(1, f"w{i}") + field(2, '"x"')) for i in range(1001)),
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
            "invalid_request",
        ),
        (
            field(2, field(1, TEXT) + field(3, b"\0\0" * 16000)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "invalid_request",
        ),
        (
            field(3, field(1, TEXT) + field(2, b"\0\0" * 160)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "prompt_audio",
        ),
        (
            field(4, field(1, TEXT) + field(3, "slowly")),
            grpc.StatusCode.INVALID_ARGUMENT,
            "unsupported",
        ),
    ],
)
def test_errors_have_a_status_and_a_code(
    server: GrpcServer, request_bytes: bytes, code: Any, error: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(call(server, request_bytes))
    assert caught.value.code() is code
    assert dict(caught.value.trailing_metadata())["mynah-error"] == error
    assert caught.value.details()


def test_a_client_that_cancels_stops_the_work(server: GrpcServer, tts: TTS) -> None:
    with Engine(tts) as engine:
        answer = call(server, sft(LONG, "fake"))
        audio_of(next(answer))
        answer.cancel()
        engine.wait_for("cancelled")
    assert list(call(server, sft(TEXT, "fake")))


def test_a_client_that_dies_stops_the_work(server: GrpcServer, tts: TTS) -> None:
    with Engine(tts) as engine:
        channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
        answer = channel.unary_stream(METHOD)(sft(LONG, "fake"))
        next(answer)
        channel.close()
        engine.wait_for("cancelled")


def test_a_client_that_stops_reading_is_let_go(tts: TTS, loop: LoopThread) -> None:
    """Its stream is kept from growing, others go on, and after a while it is cut off."""
    runtime = Runtime(ServerSettings(stall_s=0.5), loaded={"fake": tts})
    server = serve(loop, runtime)
    channel = slow_channel(server)
    with Engine(tts) as engine:
        answer = channel.unary_stream(METHOD)(sft(LONG, "fake"))
        next(answer)
        assert list(call(server, sft(TEXT, "fake")))
        engine.wait_for("finished", "cancelled")
    channel.close()
    loop.run(server.aclose())


def test_more_calls_than_allowed_are_refused(tts: TTS, loop: LoopThread) -> None:
    server = serve(loop, Runtime(ServerSettings(), loaded={"fake": tts}), max_concurrent=1)
    with Engine(tts) as engine:
        first = call(server, sft(LONG, "fake"))
        next(first)
        with pytest.raises(grpc.RpcError) as caught:
            list(call(server, sft(TEXT, "fake")))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        first.cancel()
        engine.wait_for("cancelled")
    loop.run(server.aclose())


def test_an_overloaded_engine_says_when_to_try_again(
    tts: TTS, server: GrpcServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tts.engine, "limits", Limits(max_listeners=1))
    try:
        with Engine(tts) as engine:
            first = call(server, sft(LONG, "fake"))
            next(first)
            with pytest.raises(grpc.RpcError) as caught:
                list(call(server, sft(TEXT, "fake")))
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert int(dict(caught.value.trailing_metadata())["retry-after"]) >= 1
            first.cancel()
            engine.wait_for("cancelled")
    finally:
        tts.engine.limits = None


def test_calls_count_in_the_limit_of_requests(tts: TTS, loop: LoopThread) -> None:
    settings = ServerSettings(requests_per_minute=0.001, burst=1)
    server = serve(loop, Runtime(settings, loaded={"fake": tts}))
    assert list(call(server, sft(TEXT, "fake")))
    with pytest.raises(grpc.RpcError) as caught:
        list(call(server, sft(TEXT, "fake")))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(dict(caught.value.trailing_metadata())["retry-after"]) >= 1
    loop.run(server.aclose())


def test_a_key_is_asked_for_where_one_is_set(tts: TTS, loop: LoopThread) -> None:
    settings = ServerSettings(api_keys=("secret",))  # type: ignore[arg-type]
    server = serve(loop, Runtime(settings, loaded={"fake": tts}))
    with pytest.raises(grpc.RpcError) as caught:
        list(call(server, sft(TEXT, "fake")))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    key = (("authorization", "Bearer secret"),)
    assert list(call(server, sft(TEXT, "fake"), metadata=key))
    loop.run(server.aclose())
