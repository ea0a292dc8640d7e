"""Malformed input to every endpoint: an answer that tells what is wrong, never a crash.

``test_openapi.py`` sends what the schemas describe; here comes what no schema would think of.
"""

from __future__ import annotations

import importlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import WebSocketRoute
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from mynah.api import TTS
from mynah.server.app import ROUTERS
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings
from tests.server.conftest import LiveServer, serve
from tests.server.loops import eventually

ROUTES = [route for name in ROUTERS for route in importlib.import_module(name).router.routes]
HTTP = sorted(
    (method, route.path)
    for route in ROUTES
    for method in getattr(route, "methods", None) or ()
    if method != "HEAD"
)
SOCKETS = sorted({route.path for route in ROUTES if isinstance(route, WebSocketRoute)})
EXPECTED = {200, 201, 202, 204, 304, 307, 503}
"""Besides errors of the client: some nonsense makes sense to some endpoints."""

quick = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
words = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["\x00", "../../etc/passwd", "%00", "\ud83d\ude00", "NaN", "-1", "9" * 400]),
)
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(),
        words,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=4)),
    max_leaves=8,
)
FIELDS = (
    "text", "input", "voice", "model", "speed", "seed", "stream", "response_format", "messages",
    "sample_rate", "speaker_id", "mode", "tts_text", "spk_id", "voice_settings", "items", "type",
    "request_id", "score", "tags", "language", "reference_audio", "name", "instructions", "lexicon",
    "in_time", "emotion", "emotion_strength", "consent", "recording", "format", "pitch", "volume",
    "hot_fix", "language_hints", "bit_rate", "directive", "flush",
)  # fmt: skip
fields = st.dictionaries(st.sampled_from(FIELDS), values, max_size=5)
bodies = st.one_of(
    st.tuples(st.just("application/json"), fields.map(lambda found: json.dumps(found).encode())),
    st.tuples(
        st.sampled_from(
            [
                "application/json",
                "application/json; charset=utf-16",
                "application/x-www-form-urlencoded",
                "multipart/form-data",
                "multipart/form-data; boundary=x",
                "text/plain",
                "audio/wav",
                "nonsense",
            ]
        ),
        st.one_of(
            st.binary(max_size=64),
            st.sampled_from(
                [
                    b"{",
                    b'{"text": "a\x00b"}',
                    b'{"text": "\\ud800", "input": "\\ud800"}',
                    b'{"text": 1e999, "speed": NaN}',
                    b"[" * 5000,
                    b'{"a":' * 2000 + b"1" + b"}" * 2000,
                    b'--x\r\nContent-Disposition: form-data; name="tts_text"\r\n\r\n',
                    b'--x\r\nContent-Disposition: form-data; name="prompt_wav"; filename="../a"'
                    b"\r\nContent-Type: audio/wav\r\n\r\nRIFF\xff\xff\xff\xffWAVEfmt \r\n--x--\r\n",
                    b"text=%ff%fe&tts_text=%00&spk_id=",
                ]
            ),
        ),
    ),
)


@pytest.fixture(scope="module")
def fuzzed(tiny_models: dict[str, TTS], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chosen = ServerSettings(
        data_dir=tmp_path_factory.mktemp("fuzzed"),
        max_text_characters=60,
        max_job_characters=60,
        max_body_bytes=40_000,
        body_s=5.0,
    )
    yield from serve(Runtime(chosen, loaded={"tiny": tiny_models["tiny"]}))


def assert_answered(answer: httpx.Response) -> None:
    status = answer.status_code
    assert status in EXPECTED or 400 <= status < 500, f"{status}: {answer.text[:300]}"
    assert answer.headers["x-request-id"]
    if status >= 400 and answer.request.method != "HEAD":
        assert isinstance(answer.json(), dict), answer.text[:300]


def test_all_kinds_of_endpoints_are_here() -> None:
    paths = {path for _, path in HTTP}
    assert {"/tts", "/metrics", "/ratings", "/v1/audio/speech", "/voices", "/jobs"} <= paths
    assert "/ws" in SOCKETS


@pytest.mark.parametrize(("method", "path"), HTTP)
def test_bodies(fuzzed: LiveServer, method: str, path: str) -> None:
    with fuzzed.client() as client:

        @quick
        @given(body=bodies, part=st.sampled_from(["tiny", "x", "..%2f..%2fetc", "%00", "a" * 300]))
        def send(body: tuple[str, bytes], part: str) -> None:
            kind, content = body
            address = _filled(path, part)
            answer = client.request(
                method, address, content=content, headers={"Content-Type": kind}
            )
            assert_answered(answer)

        send()
    eventually(lambda: fuzzed.runtime.active == 0)


@pytest.mark.parametrize(("method", "path"), HTTP)
def test_queries_and_headers(fuzzed: LiveServer, method: str, path: str) -> None:
    text = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=30)
    with fuzzed.client() as client:

        @quick
        @given(
            query=st.dictionaries(st.sampled_from(FIELDS), words, max_size=4),
            headers=st.dictionaries(
                st.sampled_from(
                    ["Accept", "Authorization", "X-Request-ID", "Range", "Cookie", "xi-api-key"]
                ),
                text.map(lambda value: value.strip().encode("latin-1")),
            ),
        )
        def send(query: dict[str, str], headers: dict[str, bytes]) -> None:
            raw: list[tuple[bytes, bytes]] = [
                (name.encode(), value) for name, value in headers.items()
            ]
            try:
                url = httpx.URL(fuzzed.url + _filled(path, "x"), params=query)
            except UnicodeEncodeError:  # no client can send it
                return
            assert_answered(client.request(method, url, headers=raw))

        send()
    eventually(lambda: fuzzed.runtime.active == 0)


@pytest.mark.parametrize("path", SOCKETS)
def test_sockets(fuzzed: LiveServer, path: str) -> None:
    kinds = st.sampled_from(["start", "text", "flush", "end", "cancel", "settings", "ping", "x"])
    message = st.one_of(
        st.builds(lambda found, kind: json.dumps({**found, "type": kind}), fields, kinds),
        st.builds(json.dumps, fields),
        st.builds(
            _task_message, st.sampled_from(["run", "continue", "finish", "x"]), fields, words
        ),
        st.text(st.characters(codec="utf-8"), max_size=40),
        st.binary(max_size=40),
        st.just("[" * 5000),
    )
    address = f"ws://127.0.0.1:{fuzzed.port}{_filled(path, 'tiny')}"

    @quick
    @given(messages=st.lists(message, min_size=1, max_size=6))
    def send(messages: list[str | bytes]) -> None:
        try:
            with connect(address, proxy=None, close_timeout=5) as link:
                for one in messages:
                    link.send(one)
        except (ConnectionClosed, InvalidStatus) as error:
            code = getattr(getattr(error, "rcvd", None), "code", 1000)
            assert code != 1011, "an unexpected error in the server"

    send()
    eventually(lambda: fuzzed.runtime.active == 0)
    with fuzzed.client() as client:
        assert client.get("/live").status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /tts HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /tts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /tts HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http(fuzzed: LiveServer, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", fuzzed.port), timeout=20) as raw:
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while data := raw.recv(4096):
                answer += data
        except ConnectionResetError:
            pass
    # A long header is taken, if it comes at once.
    assert answer == b"" or answer[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 2"), answer[:100]
    with fuzzed.client() as client:
        assert client.get("/live").status_code == 200


def test_nothing_was_written_outside(fuzzed: LiveServer) -> None:
    """After all of the above, in the order of this file."""
    folder = fuzzed.runtime.settings.data_path
    outside = [path for path in Path(folder).parent.iterdir() if path.name in ("etc", "passwd")]
    assert not outside
    eventually(lambda: fuzzed.runtime.active == 0)


def _task_message(action: str, found: dict[str, Any], task_id: str) -> str:
    """As DashScope's clients send it."""
    header = {"action": f"{action}-task", "task_id": task_id[:2]}
    return json.dumps({"header": header, "payload": {"parameters": found, "input": found}})


def _filled(path: str, value: str) -> str:
    """A path with its parameters given."""
    parts = [value if part.startswith("{") else part for part in path.split("/")]
    return "/".join(parts)
