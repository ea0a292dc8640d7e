"""The app itself: ids, errors, health."""

from __future__ import annotations

import httpx

from mynah.errors import SynthesisError
from mynah.server.errors import STATUS


def test_every_error_has_a_status() -> None:
    def below(kind: type[SynthesisError]) -> list[type[SynthesisError]]:
        return [kind, *(found for child in kind.__subclasses__() for found in below(child))]

    product = [kind for kind in below(SynthesisError) if kind.__module__.startswith("mynah.")]
    assert set(product) == set(STATUS)


def test_health(http: httpx.Client) -> None:
    assert http.get("/live").json() == {"status": "ok"}
    ready = http.get("/ready")
    assert ready.status_code == 200
    assert ready.json()["model"] == "tiny"
    assert http.get("/health").json()["models_loaded"] == ["tiny", "tiny3"]
