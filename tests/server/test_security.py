"""Who is let in, how much one may send, and what never happens."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mynah.api import TTS
from mynah.errors import InvalidRequestError
from mynah.server.errors import RateLimitedError, SlowRequestError, TooLargeError
from mynah.server.limits import TokenBuckets, limited
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings
from tests.server.conftest import LiveServer, serve
from tests.server.loops import eventually


@pytest.fixture(scope="module")
def guarded(tiny_models: dict[str, TTS], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with keys, a rate limit, small bodies, and one page that may call it."""
    settings = ServerSettings(
        api_keys=("secret-key", "other-key"),
        cors_origins=("https://example.org",),
        requests_per_minute=0.001,
        burst=20,
        max_body_bytes=20_000,
        body_s=0.5,
        stall_s=0.5,
        data_dir=tmp_path_factory.mktemp("guarded"),
    )
    yield from serve(Runtime(settings, loaded={"tiny": tiny_models["tiny"]}))


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer secret-key"},
        {"authorization": "bearer other-key"},
        {"xi-api-key": "secret-key"},
        {"X-API-Key": "secret-key"},
    ],
)
def test_a_key_in_any_header(guarded: LiveServer, headers: dict[str, str]) -> None:
    with guarded.client() as http:
        assert http.get("/capabilities", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer secret"}, {"xi-api-key": ""}, {"Authorization": "secret-key"}],
)
def test_no_key_or_a_wrong_one(guarded: LiveServer, headers: dict[str, str]) -> None:
    with guarded.client() as http:
        for path in ("/capabilities", "/openapi.json", "/jobs", "/nowhere", "/v1/models"):
            answer = http.get(path, headers=headers)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"
        assert http.get("/voices", headers=headers).json()["error"] == "unauthorized"
        assert http.get("/v1/models", headers=headers).json()["error"]["code"] == "unauthorized"
        for path in ("/live", "/ready", "/health"):
            assert http.get(path, headers=headers).status_code == 200


def test_too_many_requests(guarded: LiveServer) -> None:
    with guarded.client(headers={"xi-api-key": "other-key"}) as http:
        answers = [http.get("/capabilities") for _ in range(25)]
        assert answers[-1].status_code == 429
        assert answers[-1].json()["error"] == "rate_limited"
        assert int(answers[-1].headers["retry-after"]) > 0
        assert http.get("/live").status_code == 200
    with guarded.client(headers={"xi-api-key": "secret-key"}) as http:
        assert http.get("/capabilities").status_code == 200  # others are not concerned


def test_guessing_keys_is_limited_like_using_one(tiny_models: dict[str, TTS]) -> None:
    settings = ServerSettings(api_keys=("right",), requests_per_minute=0.001, burst=3)  # type: ignore[arg-type]
    server = serve(Runtime(settings, loaded={"tiny": tiny_models["tiny"]}))
    with next(server).client() as http:
        guesses = [http.get("/capabilities", headers={"X-API-Key": f"k{n}"}) for n in range(5)]
        assert [answer.status_code for answer in guesses] == [401, 401, 401, 429, 429]
        assert http.get("/capabilities").status_code == 401  # no key is no guess
        assert http.get("/capabilities", headers={"X-API-Key": "right"}).status_code == 200
    server.close()


def test_only_known_pages_may_call(guarded: LiveServer) -> None:
    with guarded.client(headers={"xi-api-key": "secret-key"}) as http:
        known = http.get("/voices", headers={"Origin": "https://example.org"})
        assert known.headers["access-control-allow-origin"] == "https://example.org"
        assert "Retry-After" in known.headers["access-control-expose-headers"]
        asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
        del http.headers["xi-api-key"]  # browsers ask without it
        assert http.options("/tts", headers=asked).status_code == 200


def test_other_pages_may_not(http: httpx.Client, live: LiveServer) -> None:
    for origin in ("https://evil.example", "null", f"http://localhost:{live.port}"):
        answer = http.post("/tts", json={"text": "Hello."}, headers={"Origin": origin})
        assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
        assert "access-control-allow-origin" not in answer.headers
    assert http.get("/voices", headers={"Origin": live.url}).status_code == 200


def test_a_page_that_points_its_name_here(http: httpx.Client) -> None:
    answer = http.get("/voices", headers={"Host": "evil.example:8080"})
    assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
    assert http.get("/voices", headers={"Host": "localhost"}).status_code == 200


def test_large_bodies_are_refused_in_either_form(guarded: LiveServer) -> None:
    with guarded.client(headers={"xi-api-key": "secret-key"}) as http:
        announced = http.post("/tts", content=b"x" * 20_001)
        assert (announced.status_code, announced.json()["error"]) == (413, "too_large")
        chunked = http.post("/tts", content=iter([b'{"text": "', b"x" * 20_001, b'"}']))
        assert (chunked.status_code, chunked.json()["error"]) == (413, "too_large")


def raw_request(server: LiveServer, body: str, length: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), 30)
    head = (
        f"POST /tts HTTP/1.1\r\nHost: 127.0.0.1\r\nxi-api-key: secret-key\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    connection.sendall((head + body).encode())
    return connection


def test_a_body_that_never_comes(guarded: LiveServer) -> None:
    with raw_request(guarded, '{"text": ', 1000) as connection:
        answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"request_timeout" in answer


def test_a_client_that_stops_reading_is_let_go(guarded: LiveServer) -> None:
    records: list[Any] = []
    guarded.runtime.listeners.append(records.append)
    fields = {"stream": True, "sample_rate": 192_000, "text": "One of many sentences. " * 800}
    body = json.dumps(fields)
    with raw_request(guarded, body, len(body)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        while not records:
            with guarded.client() as http:
                http.get("/live")
    guarded.runtime.listeners.remove(records.append)
    assert records[0].outcome == "cancelled"
    eventually(lambda: guarded.runtime.active == 0)


def test_nothing_a_user_wrote_is_logged(
    live: LiveServer, http: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="mynah"):
        for fields in ({"text": "Marmalade."}, {"text": "<|marmalade|>"}, {"text": "Marmalade 早"}):
            http.post("/tts", json=fields)
            http.get("/tts", params=fields)
            http.post("/v1/audio/speech", json={"input": fields["text"], "voice": "marmalade"})
        http.get("/voices/marmalade")
        http.post("/jobs", json={"text": "Marmalade.", "dialect": "marmalade"})
    assert "/tts" in caplog.text
    assert "marmalade" not in caplog.text.lower()


def test_request_ids(http: httpx.Client) -> None:
    given = http.get("/live", headers={"X-Request-ID": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    made = http.get("/live", headers={"X-Request-ID": "a b\tc"}).headers["x-request-id"]
    assert len(made) == 32
    assert http.get("/nowhere").json()["request_id"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_open_to_the_world_only_on_purpose(host: str) -> None:
    with pytest.raises(InvalidRequestError, match="no API key"):
        ServerSettings(host=host).check_exposure()
    ServerSettings(host=host, allow_public=True).check_exposure()
    ServerSettings(host=host, api_keys=("k",)).check_exposure()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", "::1", "localhost"])
def test_this_machine_is_no_world(host: str) -> None:
    ServerSettings(host=host).check_exposure()


def test_settings_tell_what_is_wrong_but_no_key() -> None:
    settings = ServerSettings.load(
        {"MYNAH_SERVER_PORT": "9000", "MYNAH_SERVER_MODELS": "a, b", "MYNAH_SERVER_API_KEYS": "k"},
        host=None,
    )
    assert (settings.port, settings.models, len(settings.api_keys)) == (9000, ("a", "b"), 1)
    assert "'k'" not in repr(settings)
    with pytest.raises(InvalidRequestError, match="port"):
        ServerSettings.load({"MYNAH_SERVER_PORT": "x"})
    with pytest.raises(InvalidRequestError, match="voice_aliases"):
        ServerSettings.load({"MYNAH_SERVER_VOICE_ALIASES": "x"})
    with pytest.raises(
        InvalidRequestError, match="no server setting MYNAH_SERVER_API_KEY "
    ) as caught:
        ServerSettings.load({"MYNAH_SERVER_API_KEY": "k"})
    assert "did you mean MYNAH_SERVER_API_KEYS?" in caught.value.hint
    assert settings.data_path == ServerSettings().data_path
    assert ServerSettings(data_dir=Path("x")).data_path == Path("x")


def test_token_buckets_fill_with_time() -> None:
    now = [0.0]
    buckets = TokenBuckets(60.0, 2, lambda: now[0])
    buckets.take("a")
    buckets.take("a")
    with pytest.raises(RateLimitedError) as caught:
        buckets.take("a")
    assert caught.value.retry_after_s == pytest.approx(1.0)
    buckets.take("b")
    now[0] = 1.0
    buckets.take("a")
    now[0] = 100.0  # never more than the burst
    buckets.take("a")
    buckets.take("a")
    with pytest.raises(RateLimitedError):
        buckets.take("a")


def test_a_wrapped_body() -> None:
    async def run(pieces: list[bytes], limit: int) -> int:
        waiting = [
            {"type": "http.request", "body": piece, "more_body": index + 1 < len(pieces)}
            for index, piece in enumerate(pieces)
        ]

        async def receive() -> Any:
            if not waiting:
                await asyncio.Event().wait()
            return waiting.pop(0)

        wrapped, total = limited(receive, None, limit, 0.05), 0
        while True:
            message = await wrapped()
            total += len(message["body"])
            if not message["more_body"]:
                return total

    assert asyncio.run(run([b"ab", b"cd"], 4)) == 4
    with pytest.raises(TooLargeError):
        asyncio.run(run([b"ab", b"cd", b"e"], 4))

    async def never() -> Any:
        await asyncio.Event().wait()

    with pytest.raises(SlowRequestError):
        asyncio.run(limited(never, None, 10, 0.01)())
    with pytest.raises(TooLargeError):
        limited(never, "11", 10, 1.0)
