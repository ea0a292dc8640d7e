"""The calls of CosyVoice's own server, made as its client makes them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

TEXT = "收到好友从远方寄来的生日礼物。"
PREFIX = "You are a helpful assistant.<|endofprompt|>"


def call(
    http: httpx.Client, path: str, recording: bytes | None = None, method: str = "GET", **form: Any
) -> httpx.Response:
    """A form as the body of a GET, as the official client sends it."""
    form = {"tts_model_name": "tiny3", "seed": "3", **form}
    files = None if recording is None else {"prompt_wav": ("p", recording, "application/x")}
    return http.request(method, f"/inference_{path}", data=form, files=files)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_sft_is_bare_samples_without_a_type(http: httpx.Client, method: str) -> None:
    answer = call(http, "sft", method=method, tts_text=TEXT, spk_id="tiny")
    assert answer.status_code == 200, answer.text
    assert "content-type" not in answer.headers
    assert "content-length" not in answer.headers
    assert answer.headers["x-sample-rate"] == "24000"
    assert len(answer.content) % 2 == 0
    assert answer.content[:4] != b"RIFF"
    assert len(answer.content) > 4800


def test_every_call_with_a_recording(http: httpx.Client, recording: bytes) -> None:
    for path, form in (
        ("zero_shot", {"prompt_text": "希望你以后能够做的比我还好呦。"}),
        ("cross_lingual", {}),
        ("instruct2", {"instruct_text": "用四川话说这句话"}),
    ):
        answer = call(http, path, recording, tts_text=TEXT, **form)
        assert answer.status_code == 200, (path, answer.text)
        assert len(answer.content) > 4800


def test_markers_by_hand_change_nothing(http: httpx.Client, recording: bytes) -> None:
    """Clients send the third generation's markers or leave them out: both are the same call."""
    pairs: list[tuple[str, dict[str, str], dict[str, str]]] = [
        (
            "zero_shot",
            {"tts_text": TEXT, "prompt_text": "你好。"},
            {"tts_text": TEXT, "prompt_text": f"{PREFIX}你好。"},
        ),
        ("cross_lingual", {"tts_text": TEXT}, {"tts_text": PREFIX + TEXT}),
        (
            "instruct2",
            {"tts_text": TEXT, "instruct_text": "请用广东话表达。"},
            {
                "tts_text": TEXT,
                "instruct_text": "You are a helpful assistant. 请用广东话表达。<|endofprompt|>",
            },
        ),
    ]
    for path, plain, marked in pairs:
        first = call(http, path, recording, **plain)
        assert first.status_code == 200, (path, first.text)
        assert first.content == call(http, path, recording, **marked).content


def test_our_additions(http: httpx.Client) -> None:
    answer = call(http, "zero_shot", tts_text=TEXT, spk_id="tiny", response_format="wav")
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.content[:4] == b"RIFF"
    slow = call(http, "sft", tts_text=TEXT, spk_id="tiny", speed="0.5", stream="true")
    assert len(slow.content) > len(answer.content)
    told = call(http, "instruct", tts_text=TEXT, spk_id="tiny", instruct_text="开心地说")
    assert told.status_code == 200, told.text


@pytest.mark.parametrize(
    ("path", "form", "missing"),
    [
        ("sft", {"spk_id": "tiny"}, "tts_text"),
        ("sft", {"tts_text": TEXT}, "spk_id"),
        ("zero_shot", {"tts_text": TEXT, "prompt_text": "x"}, "prompt_wav"),
        ("cross_lingual", {"tts_text": TEXT}, "prompt_wav"),
        ("instruct2", {"tts_text": TEXT}, "instruct_text"),
    ],
)
def test_a_missing_field_is_told_as_fastapi_does(
    http: httpx.Client, path: str, form: dict[str, str], missing: str
) -> None:
    answer = call(http, path, **form)
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert detail == [{"loc": ["body", missing], "msg": "Field required", "type": "missing"}]


def test_other_errors(http: httpx.Client) -> None:
    unknown = call(http, "sft", tts_text=TEXT, spk_id="中文女")
    assert unknown.status_code == 404
    assert unknown.json()["error"] == "unknown_voice"
    broken = call(http, "cross_lingual", b"no sound at all", tts_text=TEXT)
    assert broken.status_code == 400
    assert broken.json()["error"] == "prompt_audio"
