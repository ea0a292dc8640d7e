"""The app itself: ids, errors, health."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from mynah.api import TTS
from mynah.errors import InvalidRequestError, ModelFormatError, OverloadedError, SynthesisError
from mynah.server.app import create_app
from mynah.server.errors import STATUS, problem_of
from mynah.server.parameters import Manner, SpeechParameters
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings
from mynah.server.speech import open_text_stream, speak
from tests.server.conftest import LiveServer


def test_every_error_has_a_status() -> None:
    def below(kind: type[SynthesisError]) -> list[type[SynthesisError]]:
        return [kind, *(found for child in kind.__subclasses__() for found in below(child))]

    product = [
        kind
        for kind in below(SynthesisError)
        if kind.__module__.startswith("mynah.")
        and not kind.__module__.startswith("mynah.compat.")  # raised where scripts import that
    ]
    assert set(product) == set(STATUS)


def test_health(http: httpx.Client) -> None:
    assert http.get("/live").json() == {"status": "ok"}
    ready = http.get("/ready")
    assert ready.status_code == 200
    assert ready.json()["model"] == "tiny"
    assert http.get("/health").json()["models_loaded"] == ["tiny", "tiny3"]


def test_an_unknown_path_or_method(http: httpx.Client) -> None:
    unknown = http.get("/nowhere")
    assert (unknown.status_code, unknown.json()["error"]) == (404, "not_found")
    wrong = http.delete("/voices")
    assert (wrong.status_code, wrong.json()["error"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET, POST"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OverloadedError("full", retry_after_s=2.1), 503, "overloaded"),
        (MemoryError(), 503, "out_of_memory"),
        (ModelFormatError("damaged"), 500, "model_format"),
        (KeyError("what a user wrote"), 500, "internal"),
    ],
)
def test_problems(
    error: Exception, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.code) == (status, code)
    assert problem.message
    assert problem.solution
    if status == 503:
        assert problem.headers["Retry-After"] in ("3", "10")
    assert "user" not in problem.message + problem.solution + caplog.text


def test_an_unexpected_error_is_told_to_nobody(tiny_models: dict[str, TTS]) -> None:
    """Not even to the log, but for its kind and place; the connection goes on."""
    app = create_app(Runtime(ServerSettings(), loaded=tiny_models))

    @app.get("/broken")
    async def broken() -> None:
        raise KeyError("what a user wrote")

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.get("/broken")

    answer = asyncio.run(call())
    assert (answer.status_code, answer.json()["error"]) == (500, "internal")
    assert "user" not in answer.text


def test_many_listeners_at_once_get_what_each_would_get_alone(live: LiveServer) -> None:
    texts = [f"This is listener number {n}, and that is all." for n in range(8)]

    async def ask(http: httpx.AsyncClient, text: str) -> bytes:
        answer = await http.post("/tts", json={"text": text, "seed": 5, "stream": True})
        assert answer.status_code == 200
        return answer.content

    async def run() -> tuple[list[bytes], list[bytes]]:
        options = {"base_url": live.url, "timeout": 60, "trust_env": False}
        async with httpx.AsyncClient(**options) as http:  # type: ignore[arg-type]
            together = await asyncio.gather(*(ask(http, text) for text in texts))
            return together, [await ask(http, text) for text in texts]

    together, alone = asyncio.run(run())
    assert together == alone


def test_too_many_sessions_are_refused_at_once(tiny_models: dict[str, TTS]) -> None:
    runtime = Runtime(ServerSettings(max_sessions=1), loaded=tiny_models)

    async def run() -> None:
        first = await speak(runtime, SpeechParameters(text="Hello there."))
        with pytest.raises(OverloadedError):
            await speak(runtime, SpeechParameters(text="Hello there."))
        await first.aclose()
        async with await speak(runtime, SpeechParameters(text="Hello there.")) as second:
            assert [chunk async for chunk in second]
        assert runtime.active == 0

    asyncio.run(run())


def test_text_in_pieces_is_the_same_as_at_once(tiny_models: dict[str, TTS]) -> None:
    """Where the pieces are cut changes nothing, and feeding never waits."""
    runtime = Runtime(ServerSettings(max_text_characters=100), loaded=tiny_models)

    async def run(pieces: list[str]) -> list[float]:
        async with await open_text_stream(runtime, Manner(seed=3)) as spoken:
            for piece in pieces:
                spoken.feed(piece)
            spoken.end_text()
            chunks = [chunk async for chunk in spoken]
            assert spoken.spoken_text.strip() == "".join(pieces)
        return [float(x) for chunk in chunks for x in chunk.audio.samples]

    async def too_much() -> None:
        async with await open_text_stream(runtime, Manner()) as spoken:
            spoken.feed("x" * 60)
            with pytest.raises(InvalidRequestError, match="the limit is 100"):
                spoken.feed("x" * 60)

    text = "One sentence. And one more of them."
    assert asyncio.run(run([text])) == asyncio.run(run(list(text)))
    asyncio.run(too_much())
    assert runtime.active == 0
