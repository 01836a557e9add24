import io
from datetime import UTC, datetime

from orchestrator.inventory.model import HostName
from orchestrator.rotation.holdups import Wait
from orchestrator.rotation.lifecycle import Step
from orchestrator.rotation.reports import Unchanged, Unreachable
from orchestrator.views.progress import Bars
from orchestrator.views.screen import Screen

GOOD = Unchanged(host=HostName("good"), reports=())
BAD = Unreachable(host=HostName("bad"), reason="it said \x1b[31m[red]no")


THEN = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(stream: io.StringIO) -> str:
    with Bars(Screen(io.StringIO(), stream).err) as bars:
        bars.visiting("survey", (GOOD.host, BAD.host))
        bars.visited(GOOD)
        bars.visited(BAD)
        bars.waiting([Wait(server=HostName("server-01"), step=Step.SOAK, until=THEN)], THEN)
    return stream.getvalue()


def test_without_a_terminal_nothing_is_said() -> None:
    assert run(io.StringIO()) == ""


def test_on_a_terminal_batches_waits_and_bad_ends_are_told() -> None:
    said = run(Tty())
    assert "survey bad, good" in said
    assert "waiting for the soak of server-01, until 2031-05-06 07:08:09Z" in said
    assert "bad: it said \\x1b[31m[red]no" in said


def test_an_outcome_without_a_batch_is_no_error() -> None:
    Bars(Screen(io.StringIO(), Tty()).err).visited(GOOD)


def test_whoever_waits_for_the_last_hosts_of_a_batch_sees_which_they_are() -> None:
    stream = Tty()
    with Bars(Screen(io.StringIO(), stream).err) as bars:
        bars.visiting("trust", [HostName(f"agent-{number:02}") for number in range(20)])
        for number in range(19):
            bars.visited(Unchanged(host=HostName(f"agent-{number:02}"), reports=()))
    first, last = stream.getvalue().split("trust ")[1], stream.getvalue().split("trust ")[-1]
    assert first.startswith("agent-00, agent-01, agent-02, agent-03 and 16 more")
    assert last.startswith("agent-19 ")


def test_servers_that_wait_for_different_things_are_told_apart() -> None:
    stream = Tty()
    with Bars(Screen(io.StringIO(), stream).err) as bars:
        waits = [
            Wait(server=HostName("server-01"), step=Step.WAIT, until=THEN),
            Wait(server=HostName("server-02"), step=Step.WAVE, until=THEN),
        ]
        bars.waiting(waits, THEN)
    assert (
        "waiting for messages in flight of server-01 and the soak of the wave before of server-02, until"
        in stream.getvalue()
    )
