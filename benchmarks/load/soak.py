"""Many short requests: memory must stay flat, and nothing may be left behind. See README.md.

python benchmarks/load/soak.py [--requests 10000] [--json soak.json]

Progress is told on stderr, and the file is written anew at every look at the server, so that a run
that is broken off leaves what it found.
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

TEXTS = ("Yes.", "No.", "Go on.", "Not now.", "Hello.")
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
    url: str,
    requests: int,
    *,
    clients: int = 4,
    watches: int = 20,
    cancels: int = 5,
    report: Callable[[dict[str, Any]], None] = lambda found: None,
) -> dict[str, Any]:
    """Make so many requests that are heard, one of ``cancels`` being left at its first audio.

    Args:
        url: of a server.
        requests: to be spoken; those that are refused are made again.
        clients: at the same time.
        watches: how often the server's figures are read, at equal distances.
        cancels: every how manieth request is left.
        report: told at each of these moments what was found so far.

    Returns:
        seconds, requests, statuses, whether all were made, and the figures at each moment they
        were read.
    """
    statuses: Counter[str] = Counter()
    watched: list[dict[str, float]] = []
    given, done = 0, 0
    began_at = time.monotonic()
    every = max(requests // watches, 1)
    # No reuse: a server that closes an idle connection just then would look like a failure.
    limits = httpx.Limits(max_keepalive_connections=0)

    def found(*, is_complete: bool) -> dict[str, Any]:
        return {
            "took_s": round(time.monotonic() - began_at, 1),
            "requests": requests,
            "done": done,
            "is_complete": is_complete,
            "statuses": dict(statuses),
            "watched": watched,
        }

    async def one(client: httpx.AsyncClient) -> None:
        nonlocal given, done
        while given < requests:
            given += 1
            number = given
            leaves = 0.0 if number % cancels == 0 else None
            # Every other one is no listener: the queue is not what is tried here.
            options = {"in_time": number % 2 == 0}
            order = Order(TEXTS[number % len(TEXTS)], number, leaves, options)
            while (heard := await listen(client, order)).status == 503:
                statuses["refused"] += 1
                await asyncio.sleep(_PAUSE_S)
            name = "cancelled" if heard.is_cancelled else str(heard.status)
            statuses[name] += 1
            done += 1
            if done % every == 0:
                moment = done
                seen = await asyncio.to_thread(watch, url)
                watched.append({"requests": moment, **seen})
                report(found(is_complete=False))

    async with httpx.AsyncClient(
        base_url=url, timeout=120, trust_env=False, limits=limits
    ) as client:
        await asyncio.gather(*(one(client) for _ in range(clients)))
    last = await settled(lambda: watch(url))
    watched.append({"requests": requests, **last})
    return found(is_complete=True)


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
    parser.add_argument("--watches", type=int, default=40, help="looks at the server's figures")
    parser.add_argument("--limit-mb", type=float, default=32.0, help="growth that is accepted")
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments, options = parser.parse_known_args()

    def keep(found: dict[str, Any]) -> None:
        if arguments.json:
            part = arguments.json.with_name(f".{arguments.json.name}.part")
            part.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
            part.replace(arguments.json)

    def report(found: dict[str, Any]) -> None:
        keep(found)
        now, per_s = found["watched"][-1], found["done"] / found["took_s"]
        left_s = (found["requests"] - found["done"]) / per_s
        print(
            f"{found['done']} of {found['requests']} in {found['took_s']:.0f} s "
            f"({per_s:.1f} a second, {left_s:.0f} s to go): {found['statuses']}, "
            f"{now['memory_bytes'] / 1e6:.0f} MB, {now['open_files']:.0f} files",
            file=sys.stderr,
            flush=True,
        )

    with running_server(*options, url=arguments.url) as url:
        found = asyncio.run(
            soak(
                url,
                arguments.requests,
                clients=arguments.clients,
                watches=arguments.watches,
                report=report,
            )
        )
    found["grown_bytes"] = grown = growth(found)
    keep(found)
    last = found["watched"][-1]
    print(json.dumps({name: value for name, value in found.items() if name != "watched"}))
    print(f"grown by {grown / 1e6:.1f} MB after the warm-up; left over: {last}")
    failed = set(found["statuses"]) - {"200", "cancelled", "refused"}
    leaked = last["active"] or last["listeners"] or last["others"]
    sys.exit(bool(failed or leaked or grown > 1e6 * arguments.limit_mb))


if __name__ == "__main__":
    main()
