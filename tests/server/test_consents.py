"""Consent recordings and voices by OpenAI's own client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.server.conftest import LiveServer


@pytest.fixture
def client(live: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{live.url}/v1", api_key="anything", max_retries=0, timeout=60
    ) as client:
        yield client


def test_the_life_of_a_consent(
    client: openai.OpenAI, http: httpx.Client, recording: bytes, live: LiveServer
) -> None:
    consents = client.audio.voice_consents
    made = [
        consents.create(name=name, language="en-US", recording=("me.wav", recording, "audio/wav"))
        for name in ("Anna", "Berta", "Carla")
    ]
    assert made[0].object == "audio.voice_consent"
    assert consents.retrieve(made[0].id) == made[0]
    assert consents.update(made[0].id, name="Anna B.").name == "Anna B."
    listed = list(consents.list(limit=2))  # the client turns the pages
    assert {consent.id for consent in listed} == {consent.id for consent in made}
    assert len(http.get("/v1/audio/voice_consents", params={"limit": 1}).json()["data"]) == 1
    folder = live.runtime.settings.data_path / "consents"
    assert (folder / f"{made[0].id}.recording").read_bytes() == recording

    voice = client.audio.voices.create(
        name="anna_of_consent",
        audio_sample=("me.wav", recording, "audio/wav"),
        consent=made[0].id,
    )
    note = http.get(f"/voices/{voice.id}").json()["consent"]
    assert made[0].id in note
    assert "Anna B." in note
    http.delete(f"/v1/audio/voices/{voice.id}")

    for consent in made:
        assert consents.delete(consent.id).deleted
    assert not list(folder.iterdir())
    assert list(consents.list()) == []


def test_what_is_refused(
    client: openai.OpenAI, http: httpx.Client, recording: bytes, tmp_path: Path
) -> None:
    consents, sample = client.audio.voice_consents, ("me.wav", recording, "audio/wav")
    with pytest.raises(openai.NotFoundError):
        consents.retrieve("cons_0123")
    with pytest.raises(openai.NotFoundError):
        consents.delete("cons_" + "0" * 24)
    with pytest.raises(openai.NotFoundError):
        client.audio.voices.create(name="x", audio_sample=sample, consent="cons_" + "0" * 24)
    with pytest.raises(openai.BadRequestError):
        consents.create(name="A", language="no language", recording=sample)
    with pytest.raises(openai.BadRequestError):
        consents.create(name="A", language="en", recording=("me.wav", b"RIFF", "audio/wav"))
    assert http.get("/v1/audio/voice_consents/..%2f..%2fjobs").status_code == 404
    assert http.get("/v1/audio/voice_consents", params={"after": "cons_1"}).status_code == 404
    assert http.get("/v1/audio/voice_consents").json()["data"] == []
