"""What an operator watches, for Prometheus. No label holds anything that a client made up."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from mynah import __version__
from mynah.engine.cache import CacheStats
from mynah.engine.scheduler import Stats
from mynah.errors import CancelledError
from mynah.server.context import request_id
from mynah.server.errors import ConflictError, Problem
from mynah.server.runtime import RequestRecord, Runtime, SpeechRecord

DONE = "done"
T = TypeVar("T")
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "WEBSOCKET")
_REQUESTS_KEPT = 10_000
_FIRST_S = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_LAST_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
_FACTORS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0, 1.25, 1.5, 2.0, 4.0)
_BATCHES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counts what a runtime reports, and asks its engines when somebody looks."""

    def __init__(self, runtime: Runtime) -> None:
        """Listen to a runtime from now on, with a registry of its own."""
        self.registry = registry = CollectorRegistry()
        by_speech = ("protocol", "model")
        self._speeches = Counter(
            "mynah_speeches",
            "Speeches that are over; outcome is done, cancelled, or the code of an error.",
            (*by_speech, "outcome"),
            registry=registry,
        )
        self._first = Histogram(
            "mynah_first_audio_seconds",
            "From the request (or its first text) to the first audio, where somebody listens.",
            by_speech,
            buckets=_FIRST_S,
            registry=registry,
        )
        self._last = Histogram(
            "mynah_last_packet_seconds",
            "From the request to the end of its audio, of speeches that were done.",
            by_speech,
            buckets=_LAST_S,
            registry=registry,
        )
        self._factor = Histogram(
            "mynah_real_time_factor",
            "Seconds that a speech took for each second of its audio, with waiting and sending.",
            by_speech,
            buckets=_FACTORS,
            registry=registry,
        )
        self._underruns = Counter(
            "mynah_underruns",
            "Times that a listener who plays from the first audio had to wait for more.",
            by_speech,
            registry=registry,
        )
        self._underrun_s = Counter(
            "mynah_underrun_seconds", "How long they waited.", by_speech, registry=registry
        )
        self._audio_s = Counter(
            "mynah_audio_seconds", "Audio handed out.", by_speech, registry=registry
        )
        self._characters = Counter(
            "mynah_characters", "Characters of the texts.", by_speech, registry=registry
        )
        self._requests = Counter(
            "mynah_requests",
            "HTTP requests and sockets that are over.",
            ("method", "route", "status"),
            registry=registry,
        )
        kinds = ("code", "status")
        self._errors = Counter("mynah_errors", "Errors answered.", kinds, registry=registry)
        self._stage_s = Counter(
            "mynah_stage_seconds",
            "Time in each stage: networks, text, making voices ready, reading recordings.",
            ("model", "stage"),
            registry=registry,
        )
        self._stage_calls = Counter(
            "mynah_stage_calls", "Calls of these stages.", ("model", "stage"), registry=registry
        )
        self._ratings = Counter(
            "mynah_quality_ratings",
            "Listeners' ratings, 1 (bad) to 5 (excellent).",
            ("model", "score"),
            registry=registry,
        )
        self._tags = Counter(
            "mynah_quality_tags", "What they named.", ("model", "tag"), registry=registry
        )
        self._spoken: OrderedDict[str, str] = OrderedDict()
        self._rated: OrderedDict[str, None] = OrderedDict()
        registry.register(_Live(runtime))
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self._listen(runtime)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def rate(self, request: str, score: int, tags: Sequence[str]) -> str:
        """Count a rating of 1 to 5; returns the model's name, "" if it was not spoken here.

        Args:
            request: id of the rated request; answers carry it in ``X-Request-ID``.
            score: 1 to 5.
            tags: out of a fixed list.

        Raises:
            ConflictError: if it was rated already.
        """
        if request in self._rated:
            raise ConflictError(
                "this request was rated already", hint="each request can be rated once"
            )
        _keep(self._rated, request, None)
        model = self._spoken.get(request, "")
        self._ratings.labels(model, str(score)).inc()
        for tag in dict.fromkeys(tags):
            self._tags.labels(model, tag).inc()
        return model

    def _listen(self, runtime: Runtime) -> None:
        runtime.listeners.append(self._on_speech)
        runtime.request_listeners.append(self._on_request)
        runtime.stage_listeners.append(self._on_call)
        runtime.error_listeners.append(self._on_error)

    def _on_speech(self, record: SpeechRecord) -> None:
        labels = (record.protocol, record.model)
        self._speeches.labels(*labels, record.outcome).inc()
        self._audio_s.labels(*labels).inc(record.audio_s)
        self._characters.labels(*labels).inc(record.characters)
        self._underruns.labels(*labels).inc(record.underruns)
        self._underrun_s.labels(*labels).inc(record.underrun_s)
        if record.first_audio_s is not None and record.in_time:
            self._first.labels(*labels).observe(record.first_audio_s)
        if record.outcome == DONE and record.audio_s > 0.0:
            self._last.labels(*labels).observe(record.total_s)
            self._factor.labels(*labels).observe(record.total_s / record.audio_s)
        if record.audio_s > 0.0 and (name := request_id.get()):
            _keep(self._spoken, name, record.model)

    def _on_request(self, record: RequestRecord) -> None:
        method = record.method if record.method in _METHODS else "other"
        self._requests.labels(method, record.route, str(record.status)).inc()
        if record.code:
            status = str(record.status) if record.code != CancelledError.code else "499"
            self._errors.labels(record.code, status).inc()

    def _on_error(self, problem: Problem) -> None:
        self._errors.labels(problem.code, str(problem.status)).inc()

    def _on_call(self, model: str, stage: str, seconds: float) -> None:
        self._stage_s.labels(model, stage).inc(seconds)
        self._stage_calls.labels(model, stage).inc()


class _Live(Collector):
    """What is read off the engines at the moment somebody looks."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def describe(self) -> list[Metric]:
        """Nothing beforehand: the names are only known with the models."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        runtime = self._runtime
        yield _gauge("mynah_up", "Always 1.", [((__version__,), 1.0)], ("version",))
        yield _gauge("mynah_active", "Speeches that are running.", [((), runtime.active)])
        is_ready = bool(runtime.model_names()) and runtime.is_ready
        yield _gauge("mynah_ready", "Whether requests are taken.", [((), is_ready)])
        yield _gauge("mynah_draining", "Whether it will stop.", [((), runtime.is_draining)])
        if (waiting := runtime.waiting_jobs) is not None:
            yield _gauge("mynah_jobs_waiting", "Jobs that have not ended.", [((), waiting())])
        loaded = {
            name: tts for name in runtime.model_names() if (tts := runtime.loaded(name)) is not None
        }
        yield from _engines({name: tts.engine.stats() for name, tts in loaded.items()})
        caches = {(name, "prepared"): tts.prepared_voices for name, tts in loaded.items()}
        caches["", "recordings"] = runtime.clips.stats()
        yield from _caches(caches)
        yield from _gpu()


def _load(stats: Stats) -> float:
    return stats.listeners / max(stats.capacity, 1)


_Reading = tuple[str, str, Callable[[Stats], float | None]]
_NOW: tuple[_Reading, ...] = (
    ("listeners", "Speeches made in real time.", lambda s: s.listeners),
    ("others", "Speeches that nobody listens to yet.", lambda s: s.others),
    ("queue", "Speeches that could go on but have no worker.", lambda s: s.ready),
    ("capacity", "Listeners that can be served at once, as measured.", lambda s: s.capacity),
    ("load", "Listeners for each one that can be served; 1 = full.", _load),
    ("cost", "Worker seconds for a second of audio, as measured.", lambda s: s.cost),
)
_SO_FAR: tuple[_Reading, ...] = (
    ("refused", "Speeches refused for want of capacity.", lambda s: s.num_refused),
    ("busy_seconds", "Time that workers worked.", lambda s: s.busy_s),
    ("audio_seconds", "Audio of speeches that are over.", lambda s: s.audio_s),
    ("tokens", "Speech tokens made.", lambda s: s.num_tokens),
)
_SHARED: tuple[tuple[str, str, Callable[[Stats], dict[int, int]]], ...] = (
    ("lm", "Speeches sharing a call of the language model.", lambda s: s.batches),
    ("render", "Speeches sharing calls of flow and vocoder.", lambda s: s.render_batches),
)


def _engines(stats: dict[str, Stats]) -> Iterator[Metric]:
    for name, text, value in _NOW:
        values = [((model,), value(one)) for model, one in stats.items()]
        known = [(labels, number) for labels, number in values if number is not None]
        yield _gauge(f"mynah_engine_{name}", text, known, ("model",))
    for name, text, value in _SO_FAR:
        counter = CounterMetricFamily(f"mynah_engine_{name}", text, labels=("model",))
        for model, one in stats.items():
            counter.add_metric((model,), value(one) or 0.0)
        yield counter
    for name, text, sizes in _SHARED:
        batches = HistogramMetricFamily(f"mynah_{name}_batch_size", text, labels=("model",))
        for model, one in stats.items():
            batches.add_metric((model,), *_histogram(sizes(one)))
        yield batches


def _histogram(sizes: dict[int, int]) -> tuple[list[tuple[str, float]], float]:
    """Buckets and sum of how often there was which size."""
    buckets = [
        (f"{float(most)}", float(sum(n for size, n in sizes.items() if size <= most)))
        for most in _BATCHES
    ]
    buckets.append(("+Inf", float(sum(sizes.values()))))
    return buckets, float(sum(size * count for size, count in sizes.items()))


def _caches(caches: dict[tuple[str, str], CacheStats]) -> Iterator[Metric]:
    labels = ("model", "cache")
    hits = CounterMetricFamily("mynah_voice_cache_hits", "Voices that were ready.", labels=labels)
    misses = CounterMetricFamily(
        "mynah_voice_cache_misses", "Voices that had to be made ready.", labels=labels
    )
    for where, stats in caches.items():
        hits.add_metric(where, stats.hits)
        misses.add_metric(where, stats.misses)
    yield from (hits, misses)


def _gpu() -> Iterator[Metric]:
    """Memory of the graphics cards, if a model brought torch and uses them; loads nothing."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return
    cards = [(str(card), card) for card in range(torch.cuda.device_count())]
    memory = {name: torch.cuda.mem_get_info(card) for name, card in cards}
    yield _gauge(
        "mynah_gpu_memory_used_bytes",
        "Memory in use on the card, by all programs.",
        [((name,), total - free) for name, (free, total) in memory.items()],
        ("gpu",),
    )
    yield _gauge(
        "mynah_gpu_memory_total_bytes",
        "Memory of the card.",
        [((name,), total) for name, (_, total) in memory.items()],
        ("gpu",),
    )
    yield _gauge(
        "mynah_gpu_memory_allocated_bytes",
        "Memory of this process' arrays.",
        [((name,), torch.cuda.memory_allocated(card)) for name, card in cards],
        ("gpu",),
    )
    if _has_nvml():
        yield _gauge(
            "mynah_gpu_utilisation",
            "Share of time that the card worked, 0 to 1.",
            [((name,), torch.cuda.utilization(card) / 100) for name, card in cards],
            ("gpu",),
        )


def _has_nvml() -> bool:
    try:
        import pynvml  # noqa: F401  # torch reads the utilisation through it
    except ImportError:
        return False
    return True


def _gauge(
    name: str,
    text: str,
    values: Sequence[tuple[tuple[str, ...], float]],
    labels: Sequence[str] = (),
) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, text, labels=labels)
    for where, value in values:
        gauge.add_metric(where, float(value))
    return gauge


def _keep(names: OrderedDict[str, T], name: str, value: T) -> None:
    names[name] = value
    while len(names) > _REQUESTS_KEPT:
        names.popitem(last=False)
