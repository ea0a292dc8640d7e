"""Alert rules and dashboard: every query can be parsed, and asks for metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from mynah.api import TTS
from mynah.server.context import request_id
from mynah.server.errors import STATUS
from mynah.server.metrics import Metrics
from mynah.server.runtime import RequestRecord, Runtime, SpeechRecord
from mynah.server.settings import ServerSettings
from tests.fake_model import TEXT, fake_tts

DEPLOY = Path(__file__).parents[2] / "deploy"
FOREIGN = {"up"}
"""Metrics of Prometheus itself."""
ON_CARDS = {
    "mynah_gpu_memory_used_bytes",
    "mynah_gpu_memory_total_bytes",
    "mynah_gpu_utilisation",
}
NOT_SHOWN = {
    "mynah_active",
    "mynah_characters_total",
    "mynah_draining",
    "mynah_engine_audio_seconds_total",
    "mynah_engine_load",
    "mynah_engine_refused_total",
    "mynah_ready",
    "mynah_requests_total",
}
"""Metrics that the dashboard leaves out: others there tell the same, or an alert does."""
KEPT_OUT = {"overloaded", "draining", "cancelled"}
"""Refusals and departures: no failures, whatever their status."""


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana/mynah.json").read_text(encoding="utf-8"))
    return found


def queries() -> Iterator[str]:
    for rule in rules():
        yield rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "1m")
    for name in ("adapter", "keda"):
        text = (DEPLOY / f"kubernetes/{name}.yaml").read_text(encoding="utf-8")
        if found := re.search(r"\bquery: (.+)", text):
            yield found[1]


@pytest.fixture(scope="module")
def offered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Sample names of a server that did everything once, with their labels."""
    tts: TTS = fake_tts(tmp_path_factory.mktemp("voice"))
    runtime = Runtime(ServerSettings(), loaded={"fake": tts})
    metrics = Metrics(runtime)
    runtime.waiting_jobs = lambda: 0
    with tts.stream(TEXT, seed=1) as stream:
        for _ in stream:
            pass
    token = request_id.set("one")
    runtime.report(SpeechRecord("http", "fake", "done", 10, 0.1, 1.0, 2.0, 1, underrun_s=0.1))
    request_id.reset(token)
    runtime.report_request(RequestRecord("POST", "/tts", 503, "overloaded", 0.1))
    runtime.report_call("fake", "lm", 0.1)
    metrics.rate("one", 5, ["late"])
    samples = [
        sample
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    ]
    tts.close()
    return {
        name: {label for one in samples if one.name == name for label in one.labels}
        for name in {sample.name for sample in samples}
    }


def test_queries_are_promql() -> None:
    parser = pytest.importorskip("promql_parser")
    for query in queries():
        parser.parse(query)


def test_queries_ask_for_what_there_is(offered: dict[str, set[str]]) -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked: set[str] = set()
    for query in queries():
        bare = re.sub(r'"[^"]*"', '""', query)
        names = set(re.findall(r"\b(?:mynah[_:][\w:]+|process_\w+|up\b)", bare))
        asked |= names
        unknown = names - set(offered) - recorded - FOREIGN - ON_CARDS
        assert not unknown, f"{query}: there is no {unknown}"
        for name, inside in re.findall(r"\b(mynah_\w+)\{([^}]*)\}", bare):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside))
            # What Prometheus adds itself.
            assert labels <= offered.get(name, labels) | {"job", "instance", "namespace"}, query
    assert {"mynah_speeches_total", "mynah_first_audio_seconds_bucket"} <= asked


def test_every_figure_is_on_the_dashboard(offered: dict[str, set[str]]) -> None:
    text = json.dumps(dashboard())
    figures = {
        name
        for name in offered
        if name.startswith("mynah_") and not name.endswith(("_created", "_sum", "_count"))
    }
    assert {name for name in figures if not re.search(rf"\b{name}\b", text)} == NOT_SHOWN


def test_alerts_tell_what_to_do() -> None:
    alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    wanted = {"MynahFailures", "MynahFirstAudioLate", "MynahUnderruns", "MynahRefusals"}
    assert wanted | {"MynahMemory", "MynahDown"} <= set(alerts)
    for alert in alerts.values():
        assert alert["labels"]["severity"] in ("critical", "warning", "info")
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["action"]
    assert "> 0.01" in alerts["MynahFailures"]["expr"]


def test_failures_are_the_errors_that_are_ours() -> None:
    (rule,) = (rule for rule in rules() if rule.get("record") == "mynah:failure_ratio:5m")
    pattern = re.search(r'outcome=~"([^"]+)"', rule["expr"])
    assert pattern is not None
    for kind, status in STATUS.items():
        is_ours = status >= 500 and kind.code not in KEPT_OUT
        assert bool(re.fullmatch(pattern[1], kind.code)) == is_ours, kind.code
    assert re.fullmatch(pattern[1], "internal")


def test_panels_do_not_overlap_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"]
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))
