"""Python reads this file at start when its folder is on PYTHONPATH: sockets are refused.

With ``MYNAH_TESTS_LOOPBACK=1`` this machine itself may be reached, for tests of downloads.
"""

import os
import sys

_LOOPBACK = os.environ.get("MYNAH_TESTS_LOOPBACK") == "1"


def _is_local(event: str, args: tuple[object, ...]) -> bool:
    if event == "socket.__new__":
        return True
    if event == "socket.getaddrinfo":
        return args[0] == "127.0.0.1"
    address = args[1] if len(args) > 1 else None
    return event == "socket.connect" and isinstance(address, tuple) and address[0] == "127.0.0.1"


def _refuse(event: str, args: tuple[object, ...]) -> None:
    if event.startswith("socket.") and not (_LOOPBACK and _is_local(event, args)):
        raise RuntimeError(f"a socket was used: {event} {args}")


sys.addaudithook(_refuse)
