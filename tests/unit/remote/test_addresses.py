import socket
from contextlib import suppress

import pytest

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.remote import addresses
from orchestrator.remote.addresses import ImpatientSocket
from orchestrator.remote.deadlines import Watchdog
from orchestrator.remote.handshake import NotReachedError
from orchestrator.remote.routes import Router


def test_a_socket_whose_other_side_takes_nothing_breaks_after_some_time_outs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time_out_s = 1 / 128
    monkeypatch.setattr(addresses, "_STALL_S", 3 * time_out_s)
    with socket.create_server(("127.0.0.1", 0)) as server, ImpatientSocket() as impatient:
        impatient.connect(server.getsockname())
        impatient.settimeout(time_out_s)
        late = 0

        def fill() -> None:
            nonlocal late
            while True:
                with suppress(TimeoutError):
                    impatient.send(bytes(1 << 16))
                    # On a busy machine the kernel may take more after it seemed full.
                    late = 0
                    continue
                late += 1

        with pytest.raises(BrokenPipeError):
            fill()

    assert late == 2


@pytest.mark.parametrize("name", ["x" * 300, "a..b", "a\0b", "\udcff"])
def test_a_name_that_no_host_can_have_does_not_resolve(name: str) -> None:
    (hop,) = Router().route(Endpoint(host=HostName("host"), address=name))

    with Watchdog() as watchdog, pytest.raises(NotReachedError, match="does not resolve"):
        addresses._resolve(hop, 10, watchdog.watch(60))
