"""How much one client may send, and how often."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import Message, Receive

from mynah.server.errors import RateLimitedError, SlowRequestError, TooLargeError

_CLIENTS_KEPT = 10_000


class TokenBuckets:
    """A bucket for each client: full at first, filled at a rate, one token for each request."""

    def __init__(
        self, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with full buckets; ``clock`` gives seconds."""
        self._per_s = per_minute / 60.0
        self._burst = float(burst)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Take a token.

        Raises:
            RateLimitedError: if there is none, saying when there will be.
        """
        now = self._clock()
        level, then = self._buckets.pop(client, (self._burst, now))
        level = min(self._burst, level + (now - then) * self._per_s)
        allowed = level >= 1.0
        self._buckets[client] = (level - 1.0 if allowed else level, now)
        while len(self._buckets) > _CLIENTS_KEPT:
            self._buckets.popitem(last=False)
        if not allowed:
            raise RateLimitedError(
                f"more than {60 * self._per_s:g} requests in a minute",
                hint="send fewer, or ask the server's operator for more",
                retry_after_s=(1.0 - level) / self._per_s,
            )


def limited(receive: Receive, length: str | None, max_bytes: int, max_s: float) -> Receive:
    """Wrap ``receive`` so that a body can be neither too large nor too slow.

    Args:
        receive: of a request.
        length: its ``Content-Length``, if it names one.
        max_bytes: of the body.
        max_s: until all of it has come, from now.

    Raises:
        TooLargeError: at once if the announced length is too large; the wrapped function raises
            it, too, and ``SlowRequestError``.
    """
    if length is not None and length.isdecimal() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    ends_at = time.monotonic() + max_s
    received, is_whole = 0, False

    async def wrapped() -> Message:
        nonlocal received, is_whole
        if is_whole:  # from now on it only waits for the client to leave
            return await receive()
        try:
            async with asyncio.timeout(ends_at - time.monotonic()):
                message = await receive()
        except TimeoutError as error:
            raise SlowRequestError(
                f"the request did not arrive within {max_s:g} s", hint="send it again"
            ) from error
        received += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        if received > max_bytes:
            raise _too_large(max_bytes)
        return message

    return wrapped


def _too_large(max_bytes: int) -> TooLargeError:
    return TooLargeError(
        f"the request is larger than {max_bytes} bytes",
        hint="send a shorter recording, or less text",
    )
