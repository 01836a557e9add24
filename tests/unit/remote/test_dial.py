import socket
import threading
from pathlib import Path

import pytest

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.ports import Entropy
from orchestrator.remote import addresses
from orchestrator.remote.deadlines import Watchdog
from orchestrator.remote.dial import Dialer, Patience
from orchestrator.remote.handshake import NotReachedError
from orchestrator.remote.routes import Hop, Router
from tests.fleet_worlds import SystemClock


def draw(byte: int) -> Entropy:
    def entropy(size_bytes: int) -> bytes:
        return bytes([byte]) * size_bytes

    return entropy


def test_waits_double_up_to_a_bound_and_are_between_half_and_all_of_it() -> None:
    shortest = [Dialer(entropy=draw(0), clock=SystemClock())._wait_s(tries) for tries in range(1, 9)]
    longest = [Dialer(entropy=draw(255), clock=SystemClock())._wait_s(tries) for tries in range(1, 9)]

    assert shortest == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 1.5, 1.5])
    assert all(low < high < 2 * low for low, high in zip(shortest, longest, strict=True))


def test_without_any_key_or_known_hosts_the_host_is_not_dialled() -> None:
    endpoint = Endpoint(host=HostName("host"), address="192.0.2.1")

    with Watchdog() as watchdog, pytest.raises(NotReachedError, match="no key to log in with"):
        Dialer(entropy=draw(0), clock=SystemClock()).connect(endpoint, watchdog.watch(60))


def test_a_resolver_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def look_up(_: Hop, flags: int) -> list[object]:
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror
        released.wait(60)
        return []

    monkeypatch.setattr(addresses, "_look_up", look_up)
    (hop,) = Router().route(Endpoint(host=HostName("host"), address="a.name.example"))
    with Watchdog() as watchdog, pytest.raises(NotReachedError) as caught:
        addresses._resolve(hop, 0.05, watchdog.watch(60))
    released.set()

    assert caught.value.reason == (
        "the name 'a.name.example' was not resolved within 0 s; check ansible_host, or HostName in ssh_config"
    )


def test_a_damaged_file_is_told_each_time_and_read_once(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("@revoked rubbish")
    dialer = Dialer(entropy=draw(0), clock=SystemClock(), patience=Patience())
    endpoint = Endpoint(host=HostName("host"), address="192.0.2.1", known_hosts=str(file))

    for _ in range(2):
        with (
            Watchdog() as watchdog,
            pytest.raises(
                NotReachedError, match=r"known_hosts:1: not a line of known_hosts.*; a line with a mark is"
            ),
        ):
            dialer.connect(endpoint, watchdog.watch(60))
        file.write_text("")
