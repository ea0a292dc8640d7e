"""Many short requests: memory must stay flat, and nothing may be left behind. See README.md.

python benchmarks/load/soak.py [--requests 10000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.load.listener import Order, listen
from benchmarks.load.server import figures, running_server

TEXTS = ("Yes.", "Not today.", "See you soon.", "Hello there.", "Turn left.")
WATCHED = {
    "memory_bytes": "process_resident_memory_bytes",
    "open_files": "process_open_fds",
    "active": "mynah_active",
    "listeners": "mynah_engine_listeners",
    "others": "mynah_engine_others",
}
_PAUSE_S = 0.05
_WARM_UP = 0.1
"""Share of the requests before memory counts: caches and allocators fill first."""


async def soak(
    url: str, requests: int, *, clients: int = 4, watches: int = 20, cancels: int = 5
) -> dict[str, Any]:
    """Make so many requests that are heard, one of ``cancels`` being left at its first audio.

    Args:
        url: of a server.
        requests: to be spoken; those that are refused are made again.
        clients: at the same time.
        watches: how often the server's figures are read, at equal distances.
        cancels: every how manieth request is left.

    Returns:
        statuses, and the figures at each moment they were read.
    """
    statuses: Counter[str] = Counter()
    watched: list[dict[str, float]] = []
    given = 0
    every = max(requests // watches, 1)
    # No reuse: a server that closes an idle connection just then would look like a failure.
    limits = httpx.Limits(max_keepalive_connections=0)

    async def one(client: httpx.AsyncClient) -> None:
        nonlocal given
        while given < requests:
            given += 1
            number = given
            leaves = 0.0 if number % cancels == 0 else None
            order = Order(TEXTS[number % len(TEXTS)], number, leaves)
            while (heard := await listen(client, order)).status == 503:
                statuses["refused"] += 1
                await asyncio.sleep(_PAUSE_S)
            name = "cancelled" if heard.is_cancelled else str(heard.status)
            statuses[name] += 1
            if number % every == 0:
                watched.append({"requests": number, **await asyncio.to_thread(watch, url)})

    began_at = time.monotonic()
    async with httpx.AsyncClient(
        base_url=url, timeout=120, trust_env=False, limits=limits
    ) as client:
        await asyncio.gather(*(one(client) for _ in range(clients)))
    took_s = time.monotonic() - began_at
    last = await settled(lambda: watch(url))
    return {
        "took_s": round(took_s, 1),
        "statuses": dict(statuses),
        "watched": [*watched, {"requests": requests, **last}],
    }


def watch(url: str) -> dict[str, float]:
    """The server's figures now."""
    found = figures(url)
    return {name: found.get(metric, 0.0) for name, metric in WATCHED.items()}


async def settled(read: Callable[[], dict[str, float]], limit_s: float = 10.0) -> dict[str, float]:
    """Figures when the last sessions are gone, or after a while."""
    ends_at = time.monotonic() + limit_s
    while (now := await asyncio.to_thread(read))["active"] and time.monotonic() < ends_at:
        await asyncio.sleep(_PAUSE_S)
    return now


def growth(found: dict[str, Any]) -> float:
    """Bytes of memory that were added after the warm-up."""
    watched = found["watched"]
    early = next(one for one in watched if one["requests"] >= _WARM_UP * watched[-1]["requests"])
    return float(watched[-1]["memory_bytes"] - early["memory_bytes"])


def main() -> None:
    """Soak, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--limit-mb", type=float, default=32.0, help="growth that is accepted")
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments, options = parser.parse_known_args()
    with running_server(*options, url=arguments.url) as url:
        found = asyncio.run(soak(url, arguments.requests, clients=arguments.clients))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))
    last, grown = found["watched"][-1], growth(found)
    print(f"grown by {grown / 1e6:.1f} MB after the warm-up; left over: {last}")
    failed = set(found["statuses"]) - {"200", "cancelled", "refused"}
    leaked = last["active"] or last["listeners"] or last["others"]
    sys.exit(bool(failed or leaked or grown > 1e6 * arguments.limit_mb))


if __name__ == "__main__":
    main()
