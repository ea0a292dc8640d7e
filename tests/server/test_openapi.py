"""The description of the API is true: what schemathesis makes up from it is answered as it says."""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import positive_data_acceptance

from mynah.server.app import create_app
from mynah.server.runtime import Runtime
from mynah.server.settings import ServerSettings
from tests.server.conftest import LiveServer

schema = schemathesis.openapi.from_dict(create_app(Runtime(ServerSettings())).openapi())


@schema.parametrize()
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(case: schemathesis.Case, live: LiveServer) -> None:
    for place in (case.query, case.body, *_items(case.body)):
        _give_time(place)
    # Not all that a schema allows makes sense: a bit rate for PCM, or a recording without sound.
    case.call_and_validate(
        base_url=live.url, timeout=600, excluded_checks=[positive_data_acceptance]
    )


def _items(body: Any) -> list[Any]:
    items = body.get("items") if isinstance(body, dict) else None
    return items if isinstance(items, list) else []


def _give_time(place: Any) -> None:
    """Too short a time is answered with 504, as described, which would be taken for a fault."""
    if isinstance(place, MutableMapping) and "timeout_s" in place:
        with suppress(TypeError, ValueError):
            if 0 < float(place["timeout_s"]) < 60:
                place["timeout_s"] = 60.0


def test_nothing_is_fetched_from_elsewhere(http: httpx.Client) -> None:
    assert http.get("/docs").status_code == 404
    document = http.get("/openapi.json").text
    assert "http://" not in document
    assert "https://" not in document
