"""The description of the API is true: what schemathesis makes up from it is answered as it says."""

from __future__ import annotations

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
    # Not all that a schema allows makes sense: a bit rate for PCM, or a recording without sound.
    case.call_and_validate(
        base_url=live.url, timeout=60, excluded_checks=[positive_data_acceptance]
    )


def test_nothing_is_fetched_from_elsewhere(http: httpx.Client) -> None:
    assert http.get("/docs").status_code == 404
    document = http.get("/openapi.json").text
    assert "http://" not in document
    assert "https://" not in document
