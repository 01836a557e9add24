"""Whatever befalls the hosts, the controller and the playbooks, nobody is orphaned and all of it ends.

A history is a list of things that happen: playbooks are edited and applied (killed half-way or not, with time
to wait or without), hosts fail, are wiped, go back to snapshots, and time passes.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.operations.watch import watch_once
from orchestrator.policy.desired import Desired, MessageSpec, Origin, Policy
from tests.endings import assert_settled
from tests.fake_state import HostState
from tests.mortal import KilledError
from tests.world import AGENTS, SERVERS, World, desired

OF_ONE_SERVER = frozenset({Policy.PER_SERVER, Policy.DELEGATED})
HOSTS = (*SERVERS, *AGENTS)
EXAMPLES = int(os.environ.get("KEYRELAY_HISTORIES", "40"))
TROUBLES: Sequence[Mapping[str, object]] = (
    {"unreachable": "connection refused"},
    {"refuses": "the lock is held"},
    {"breaks_after": 0},
    {"breaks_after": 1},
    {"breaks_after": 2},
    {"skew": timedelta(hours=1)},
    {"skew": timedelta(hours=-1)},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    host: HostName
    what: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heal:
    host: HostName


@dataclass(frozen=True, slots=True, kw_only=True)
class Wipe:
    host: HostName


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    host: HostName


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    host: HostName


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePasses:
    by: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """A playbook as it is now is applied; ``killed_after`` counts points of ``mortal.py``."""

    wanted: Desired
    new_key: bool
    wait: timedelta
    killed_after: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rearrange:
    """Two plays are applied in one go, and servers may go from each to the other."""

    wanted: tuple[Desired, Desired]
    new_key: bool
    wait: timedelta
    killed_after: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    wanted: Desired


Happening = Trouble | Heal | Wipe | Snapshot | Rollback | TimePasses | Apply | Rearrange | Watch


@st.composite
def playbooks(draw: st.DrawFn, names: Sequence[str], among: Sequence[HostName] = ()) -> Desired:
    """What a playbook of one of the names may ask for; of two, each has servers of its own, or these."""
    policy = draw(st.sampled_from(list(Policy)))
    agents = draw(st.lists(st.sampled_from(AGENTS), unique=True, max_size=3))
    name = draw(st.sampled_from(names))
    theirs = SERVERS if len(names) == 1 else SERVERS[:2] if name == "main" else SERVERS[1:]
    servers = draw(st.lists(st.sampled_from(among or theirs), unique=True, min_size=1))
    narrow = draw(st.lists(st.sampled_from(servers), unique=True, min_size=1))
    origin = draw(st.sampled_from(list(Origin))) if policy in OF_ONE_SERVER else Origin.CONTROLLER
    soak = draw(st.sampled_from([timedelta(0), timedelta(minutes=10)]))
    wanted = desired(
        policy,
        servers=servers,
        agents=agents,
        listens={AGENTS[0]: tuple(narrow)},
        origin=origin,
        soak=soak,
        name=name,
    )
    validity = draw(st.sampled_from([timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30)]))
    return replace(wanted, messages=MessageSpec(validity=validity, clock_skew=timedelta(seconds=30)))


@st.composite
def rearranged(draw: st.DrawFn) -> tuple[Desired, Desired]:
    """Two plays of one file, in either order, that share all servers out between them."""
    servers = draw(st.permutations(SERVERS))
    cut = draw(st.integers(1, len(servers) - 1))
    one = draw(playbooks(["main"], servers[:cut]))
    other = draw(playbooks(["other"], servers[cut:]))
    return draw(st.sampled_from([(one, other), (other, one)]))


def happenings(names: Sequence[str]) -> st.SearchStrategy[Happening]:
    hosts = st.sampled_from(HOSTS)
    applies = st.builds(
        Apply,
        wanted=playbooks(names),
        new_key=st.booleans(),
        wait=st.sampled_from([timedelta(0), timedelta(minutes=11), timedelta(hours=1)]),
        killed_after=st.none() | st.integers(0, 60),
    )
    passing = st.sampled_from([timedelta(minutes=3), timedelta(minutes=15), timedelta(days=250)])
    rearranges = st.builds(
        Rearrange,
        wanted=rearranged(),
        new_key=st.booleans(),
        wait=st.sampled_from([timedelta(0), timedelta(minutes=11), timedelta(hours=1)]),
        killed_after=st.none() | st.integers(0, 60),
    )
    return st.one_of(
        applies,
        applies if len(names) == 1 else rearranges,
        st.builds(Trouble, host=hosts, what=st.sampled_from(TROUBLES)),
        st.builds(Heal, host=hosts),
        st.builds(Wipe, host=hosts),
        st.builds(Snapshot, host=hosts),
        st.builds(Rollback, host=hosts),
        st.builds(TimePasses, by=passing),
        st.builds(Watch, wanted=playbooks(names)),
    )


@dataclass(slots=True)
class History:
    world: World = field(default_factory=World)
    snapshots: dict[HostName, HostState] = field(default_factory=dict)

    def happens(self, happening: Happening) -> None:
        world = self.world
        match happening:
            case Trouble(host=host, what=what):
                world.fleet.heal(host)
                world.fleet.trouble(host, **what)
            case Heal(host=host):
                world.fleet.heal(host)
            case Wipe(host=host):
                world.wipe(host)
            case Snapshot(host=host):
                self.snapshots[host] = world.fleet.hosts[host]
            case Rollback(host=host):
                world.set_host(host, self.snapshots.get(host, HostState()))
            case TimePasses(by=by):
                world.clock.wait_until(world.clock.now() + by)
            case Apply():
                self._apply(happening)
            case Rearrange():
                with self._mortal(happening.killed_after):
                    world.apply_together(*happening.wanted, new_key=happening.new_key, wait=happening.wait)
            case Watch(wanted=wanted):
                asked = world.recorded.playbooks.get(wanted.playbook, wanted)
                with suppress(RefusedError):
                    applied = watch_once(world.ports, asked)
                    world.eye.check_end(applied, asked)

    def _apply(self, happening: Apply) -> None:
        with self._mortal(happening.killed_after):
            self.world.apply(happening.wanted, new_key=happening.new_key, wait=happening.wait)

    @contextmanager
    def _mortal(self, killed_after: int | None) -> Iterator[None]:
        if killed_after is not None:
            self.world.life.dies_after(killed_after)
        with suppress(RefusedError, KilledError):
            yield
        self.world.life.rise()

    def ends(self, *wanted: Desired) -> None:
        for host in HOSTS:
            self.world.fleet.heal(host)
        assert_settled(self.world, *wanted)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(happenings(["main"]), max_size=12))
def test_one_playbook_survives_any_history(happened: list[Happening]) -> None:
    history = History()
    for happening in happened:
        history.happens(happening)
    history.ends(desired(agents=AGENTS[:2]))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(happenings(["main", "other"]), max_size=12))
def test_two_playbooks_over_the_same_hosts_survive_any_history(happened: list[Happening]) -> None:
    history = History()
    for happening in happened:
        history.happens(happening)
    history.ends(
        desired(servers=SERVERS[:2], agents=AGENTS[:2]),
        desired(Policy.SHARED, servers=SERVERS[2:], agents=AGENTS[1:], name="other"),
    )
