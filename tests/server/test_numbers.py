"""Numbers that are none or too large: every protocol names the field, the value and the range."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, Field, ValidationError

from mynah.api import TTS
from mynah.errors import InvalidRequestError
from mynah.server.numbers import Seed, Speed, TopP
from mynah.server.settings import ServerSettings
from tests.fake_model import fake_tts
from tests.server.conftest import LiveServer
from tests.server.dashscope import client_of
from tests.server.sockets import dialled, served


@pytest.fixture(scope="module")
def tts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TTS]:
    with fake_tts(tmp_path_factory.mktemp("voices")) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(tts: TTS) -> Iterator[LiveServer]:
    with served(tts) as running:
        yield running


class Numbers(BaseModel):
    speed: Speed = 1.0
    seed: Seed | None = None
    top_p: TopP | None = Field(default=None, strict=True)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("speed", float("nan"), "nan is not possible, it takes a number from 0.25 to 4"),
        ("speed", float("inf"), "inf is not possible, it takes a number from 0.25 to 4"),
        ("speed", " NaN", "NaN is not possible, it takes a number from 0.25 to 4"),
        ("speed", 9, "9 is not possible, it takes a number from 0.25 to 4"),
        ("speed", "fast", "it takes a number from 0.25 to 4"),
        ("seed", 1.5, "1.5 is not possible, it takes a whole number from 0 to 92233"),
        ("seed", 1e300, "1e+300 is not possible, it takes a whole number from 0 to"),
        ("seed", float("nan"), "nan is not possible, it takes a whole number from 0 to"),
        ("seed", -1, "-1 is not possible, it takes a whole number from 0 to"),
        ("top_p", float("nan"), "nan is not possible, it takes a number above 0 and up to 1"),
        ("top_p", "0.5", "it takes a number above 0 and up to 1"),
        ("top_p", [1], "it takes a number above 0 and up to 1"),
    ],
)
def test_all_that_is_allowed_is_said(name: str, value: Any, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Numbers.model_validate({name: value})
    (found,) = caught.value.errors()
    assert found["loc"] == (name,)
    assert found["msg"].startswith(said)


def test_the_schema_still_has_the_bounds() -> None:
    properties = Numbers.model_json_schema()["properties"]
    assert (properties["speed"]["minimum"], properties["speed"]["maximum"]) == (0.25, 4.0)
    assert properties["top_p"]["anyOf"][0]["exclusiveMinimum"] == 0.0
    assert Numbers(speed=2, seed=3) == Numbers.model_validate({"speed": "2", "seed": "3"})


def explained(answer: httpx.Response) -> str:
    assert answer.status_code in (400, 422), answer.text
    return answer.text


def post(server: LiveServer, path: str, body: dict[str, Any]) -> str:
    """Answer to JSON in which NaN may stand, as Python's own writer leaves it there."""
    headers = {"Content-Type": "application/json"}
    with server.client(headers=headers) as http:
        return explained(http.post(path, content=json.dumps(body)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_over_http(server: LiveServer, value: float) -> None:
    speed = f"speed: {value} is not possible, it takes a number from 0.25 to 4"
    assert speed in post(server, "/tts", {"text": "Hi.", "speed": value})
    with server.client() as http:
        assert speed in explained(http.get("/tts", params={"text": "Hi.", "speed": str(value)}))
        form = {"tts_text": "Hi.", "spk_id": "fake", "speed": str(value)}
        assert speed in explained(http.post("/inference_sft", data=form))
    assert speed in post(server, "/v1/audio/speech", {"input": "Hi.", "speed": value})
    body = {"text": "Hi.", "voice_settings": {"speed": value}}
    assert f'"speed"],"msg":"{speed[7:]}"' in post(server, "/v1/text-to-speech/fake", body)
    seed = f"seed: {value} is not possible, it takes a whole number from 0"
    assert seed in post(server, "/tts", {"text": "Hi.", "seed": value})
    late = f"timeout_s: {value} is not possible, it takes a number above 0 and up to 86400"
    assert late in post(server, "/tts", {"text": "Hi.", "timeout_s": value})
    assert late in post(server, "/jobs", {"text": "Hi.", "timeout_s": value})


def test_over_sockets(server: LiveServer) -> None:
    with dialled(server) as own:
        own.connection.send('{"type": "start", "speed": NaN}')
        message = own.next()
        assert isinstance(message, dict)
        assert "speed: nan is not possible, it takes a number from 0.25 to 4" in message["message"]
        own.connection.send('{"type": "network", "kbps": -Infinity}')
        message = own.next()
        assert isinstance(message, dict)
        assert "kbps: -inf is not possible, it takes a number above 0" in message["message"]
    with client_of(server) as hosted:
        hosted.run(volume=float("nan"))
        assert hosted.close_code() == 1008
        said = hosted.events[-1]["header"]["error_message"]
        assert "volume: nan is not possible, it takes a number from 0 to 100" in said


def test_settings_name_the_number() -> None:
    with pytest.raises(InvalidRequestError, match=r"drain_s is wrong: .* equal to 0, not nan"):
        ServerSettings.load({}, drain_s=float("nan"))
    with pytest.raises(InvalidRequestError, match=r"port is wrong: .* 65535, not 70000"):
        ServerSettings.load({"MYNAH_SERVER_PORT": "70000"})
    with pytest.raises(InvalidRequestError) as caught:
        ServerSettings.load({}, api_keys="secret")
    assert "secret" not in str(caught.value)
