"""Programs beside a host's folder, and what goes on while a command runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.lab import Lab


@contextmanager
def again_and_again(act: Callable[[], None], *, every_s: float) -> Iterator[None]:
    """Meanwhile somebody does this, in a thread of its own, until the end."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(every_s):
            act()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)


def socket_of(lab: Lab, host: str) -> Path:
    """Where a program of the host answers."""
    base = lab.host(host).base
    return base.with_name(f"{base.name}.socket")
