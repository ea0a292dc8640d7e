"""Python reads this file at start when its folder is on PYTHONPATH: sockets are refused."""

import sys


def _refuse(event: str, args: tuple[object, ...]) -> None:
    if event.startswith("socket."):
        raise RuntimeError(f"a socket was used: {event} {args}")


sys.addaudithook(_refuse)
