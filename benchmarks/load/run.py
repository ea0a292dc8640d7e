"""Load on a server: idle, closed loop at and above what it admits, open loop. See README.md.

python benchmarks/load/run.py [--seconds 60] [--write docs/performance-server.md]
python benchmarks/load/run.py --short --seconds 10     # a minute and a half, to see that it works
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.load.listener import Heard, Order, expected_s, listen, orders
from benchmarks.load.server import figures, running_server

BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"
_IDLE = 20
_SETTLE_S = 5.0
_BEGIN_S = 6.0
"""Over so long the listeners of a closed loop begin: about the length of one answer."""
_PAUSE_S = 0.25
"""A refused listener tries again after that, sooner than it was told: refusals must be cheap."""


@dataclass(frozen=True)
class Level:
    """What was seen at one load."""

    name: str
    seconds: float
    requests: int
    done: int
    cancelled: int
    refused: int
    refused_without_retry_after: int
    failed: int
    with_underruns: int
    """Streams with at least one gap above the tolerance."""
    underrun_s: float
    first_p50_s: float | None
    first_p95_s: float | None
    audio_per_s: float
    """Seconds of audio made in a second."""


def summarise(name: str, seconds: float, heard: list[Heard]) -> Level:
    """Count what listeners saw."""
    spoken = [one for one in heard if one.status == 200]
    firsts = [one.first_s for one in spoken if one.first_s is not None]
    refused = [one for one in heard if one.status in (429, 503)]
    return Level(
        name=name,
        seconds=round(seconds, 1),
        requests=len(heard),
        done=sum(one.is_done for one in heard),
        cancelled=sum(one.is_cancelled for one in heard),
        refused=len(refused),
        refused_without_retry_after=sum(one.retry_after_s is None for one in refused),
        failed=len(heard) - len(spoken) - len(refused),
        with_underruns=sum(one.underruns > 0 for one in spoken),
        underrun_s=round(sum(one.underrun_s for one in spoken), 3),
        first_p50_s=_percentile(firsts, 50),
        first_p95_s=_percentile(firsts, 95),
        audio_per_s=round(sum(one.audio_s for one in spoken) / seconds, 2),
    )


async def idle(client: httpx.AsyncClient, next_order: Callable[[], Order]) -> list[Heard]:
    """One listener after the other."""
    return [await listen(client, Order(next_order().text, n)) for n in range(_IDLE)]


async def closed(
    client: httpx.AsyncClient, next_order: Callable[[], Order], listeners: int, seconds: float
) -> list[Heard]:
    """So many listeners all the time; each plays to the end before it asks again."""
    heard: list[Heard] = []
    ends_at = time.monotonic() + seconds
    spread = random.Random(listeners)

    async def one() -> None:
        await asyncio.sleep(spread.random() * _BEGIN_S)
        while time.monotonic() < ends_at:
            found = await listen(client, next_order())
            heard.append(found)
            if found.status == 200 and found.first_s is not None:
                # What came early is played, unless the listener left.
                over_at = found.asked_at + found.first_s + found.audio_s
                await asyncio.sleep(0.0 if found.is_cancelled else over_at - time.monotonic())
            else:
                await asyncio.sleep(_PAUSE_S)

    await asyncio.gather(*(one() for _ in range(listeners)))
    return heard


async def opened(
    client: httpx.AsyncClient, next_order: Callable[[], Order], per_s: float, seconds: float
) -> list[Heard]:
    """Listeners who come at random moments, so many in a second, whatever the server does."""
    heard: list[Heard] = []
    spread = random.Random(int(1000 * per_s))
    ends_at = time.monotonic() + seconds

    async def one() -> None:
        heard.append(await listen(client, next_order()))

    async with asyncio.TaskGroup() as group:
        while time.monotonic() < ends_at:
            await asyncio.sleep(spread.expovariate(per_s))
            group.create_task(one())
    return heard


async def measure(url: str, seconds: float, seed: int, *, short: bool = False) -> dict[str, Any]:
    """All levels, or with ``short`` the two that tell most, one after the other."""
    levels: list[Level] = []
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(
        base_url=url, timeout=300, trust_env=False, limits=limits
    ) as client:

        async def level(name: str, work: Any) -> Level:
            began_at = time.monotonic()
            found = summarise(name, 1.0, heard := await work)
            found = summarise(name, time.monotonic() - began_at, heard)
            levels.append(found)
            print(json.dumps(asdict(found)), file=sys.stderr, flush=True)
            await asyncio.sleep(_SETTLE_S)
            return found

        next_order = orders(seed)
        quiet = await level("idle", idle(client, next_order))
        capacity = max(int(figures(url)["mynah_engine_capacity"]), 1)
        every = {1, max(capacity // 2, 1), capacity, 2 * capacity, 4 * capacity}
        for listeners in sorted({capacity, 2 * capacity} if short else every):
            share = f"{listeners / capacity:.2g} x capacity"
            name = f"closed, {listeners} listeners ({share})"
            await level(name, closed(client, next_order, listeners, seconds))
        typical_s = float(np.mean([expected_s(next_order().text) for _ in range(500)]))
        for share in () if short else (0.5, 1.0, 2.0):
            rate = share * capacity / typical_s
            name = f"open, {rate:.2f} requests a second ({share:g} x capacity)"
            await level(name, opened(client, next_order, rate, seconds))
    after = figures(url)
    return {
        "date": date.today().isoformat(),
        "machine": machine(),
        "capacity": capacity,
        "idle_first_p95_s": quiet.first_p95_s,
        "levels": [asdict(one) for one in levels],
        "left_over": {
            name: after[name]
            for name in ("mynah_active", "mynah_engine_listeners", "mynah_engine_others")
        },
        "memory_bytes": after.get("process_resident_memory_bytes"),
    }


def verdicts(found: dict[str, Any]) -> list[tuple[str, bool]]:
    """What must hold: at the admitted load and above it."""
    levels, limit = found["levels"], 1.5 * found["idle_first_p95_s"]
    closed_levels = [one for one in levels if one["name"].startswith("closed")]
    admitted = [one for one in closed_levels if "(1 x capacity)" in one["name"]]
    above = [one for one in levels if any(f"({n} x capacity)" in one["name"] for n in (2, 4))]
    return [
        (
            "at the admitted load no listener hears a gap",
            not any(one["with_underruns"] for one in admitted),
        ),
        (
            f"at the admitted load first audio p95 is at most 1.5 x idle ({limit:.2f} s)",
            all(one["first_p95_s"] <= limit for one in admitted),
        ),
        (
            "above it requests are refused",
            all(one["refused"] for one in above if one["name"].startswith("closed")),
        ),
        ("above it no listener hears a gap", not any(one["with_underruns"] for one in above)),
        (
            "every refusal says when to come back",
            not any(one["refused_without_retry_after"] for one in levels),
        ),
        ("nothing fails otherwise", not any(one["failed"] for one in levels)),
        ("no session is left over", not any(found["left_over"].values())),
    ]


def table(found: dict[str, Any]) -> str:
    """The results for a document."""
    rows = [
        "| Load | Requests | Heard out | Left | Refused | Failed | Streams with a gap "
        "| First audio p50 | p95 | Audio made in 1 s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found["levels"]:
        first, late = (_seconds(one[f"first_p{n}_s"]) for n in (50, 95))
        rows.append(
            f"| {one['name']} | {one['requests']} | {one['done']} | {one['cancelled']} "
            f"| {one['refused']} | {one['failed']} | {one['with_underruns']} "
            f"| {first} | {late} | {one['audio_per_s']:.1f} s |"
        )
    judged = [f"- {'yes' if holds else '**no**'}: {what}" for what, holds in verdicts(found)]
    head = (
        f"{found['date']}, {found['machine']}. Capacity as the server measured it: "
        f"{found['capacity']} listeners. Memory at the end: {found['memory_bytes'] / 1e6:.0f} MB."
    )
    return "\n".join([head, "", *rows, "", *judged, ""])


def machine() -> str:
    """What it ran on, without names."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores of {model}, {system}"


def write(path: Path, text: str) -> None:
    """Put the results between the marks of a document."""
    old = path.read_text(encoding="utf-8")
    head, rest = old.split(BEGIN, 1)
    path.write_text(head + BEGIN + text + END + rest.split(END, 1)[1], encoding="utf-8")


def _percentile(values: list[float], percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 3) if values else None


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{1000 * value:.0f} ms"


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each level")
    parser.add_argument("--short", action="store_true", help="two levels instead of eight")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--write", type=Path, help="document whose results are replaced")
    arguments, options = parser.parse_known_args()
    with running_server(*options, url=arguments.url) as url:
        found = asyncio.run(measure(url, arguments.seconds, arguments.seed, short=arguments.short))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if arguments.write:
        write(arguments.write, table(found))
    print(table(found))
    sys.exit(not all(holds for _, holds in verdicts(found)))


if __name__ == "__main__":
    main()
