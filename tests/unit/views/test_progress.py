import io
from datetime import UTC, datetime

from orchestrator.inventory.model import HostName
from orchestrator.rotation.reports import Unchanged, Unreachable
from orchestrator.views.progress import Bars
from orchestrator.views.screen import Screen

GOOD = Unchanged(host=HostName("good"), reports=())
BAD = Unreachable(host=HostName("bad"), reason="it said \x1b[31m[red]no")


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(stream: io.StringIO) -> str:
    with Bars(Screen(io.StringIO(), stream).err) as bars:
        bars.visiting("survey", 2)
        bars.visited(GOOD)
        bars.visited(BAD)
        bars.waiting("the soak", datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC))
    return stream.getvalue()


def test_without_a_terminal_nothing_is_said() -> None:
    assert run(io.StringIO()) == ""


def test_on_a_terminal_batches_waits_and_bad_ends_are_told() -> None:
    said = run(Tty())
    assert "survey" in said
    assert "waiting for the soak, until 2031-05-06 07:08:09Z" in said
    assert "bad: it said \\x1b[31m[red]no" in said


def test_an_outcome_without_a_batch_is_no_error() -> None:
    Bars(Screen(io.StringIO(), Tty()).err).visited(GOOD)
