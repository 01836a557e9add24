"""Whatever people do, and wherever the controller is killed meanwhile, nobody is orphaned and all of it ends.

A machine of rules over the real engine and hosts in memory. The eye looks after every visit; when the machine
stops, faults do as well: runs must end, the one after that must change nothing, and every edge must hold.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from orchestrator.errors import KeyrelayError
from orchestrator.inventory.model import HostName
from orchestrator.operations.apply import apply
from orchestrator.operations.compromise import end_key
from orchestrator.operations.remove import remove
from orchestrator.operations.rollouts import pause, resume, revert
from orchestrator.operations.watch import watch_once
from orchestrator.policy.desired import Desired, Origin, PlaybookName, Policy, RolloutSpec, Share
from orchestrator.policy.stores import NO_STORES, Access, Holds, Nss, PemFiles, Pkcs12, Stores, System
from orchestrator.rotation.recorded import Rollout
from tests.endings import assert_settled
from tests.fakes import NOON
from tests.mortal import KilledError
from tests.world import AGENTS, SERVERS, World, desired

MAIN = PlaybookName("main")
HOSTS = (*SERVERS, *AGENTS)
SOAK, LONG = timedelta(minutes=10), timedelta(hours=2)
IN_WAVES = RolloutSpec(soak=SOAK, waves=(Share(number=1), Share(number=100, percent=True)))
AT_ONCE = RolloutSpec(soak=timedelta(0))
ISSUER_LASTS = timedelta(days=800)
"""Nobody renews the fleet's issuer here."""
EXAMPLES = int(os.environ.get("KEYRELAY_HANDS", "25"))
ACCESS = Access(mode="600")
STORES = Stores(
    server=(
        PemFiles(key="/etc/app/key", certificate="/etc/app/crt", access=ACCESS),
        Pkcs12(file="/etc/app/p12", password_file="/etc/app/pass", alias="keyrelay", access=ACCESS),
    ),
    agent=(System(name="ours"), Nss(database="/etc/pki/app", name="ours", holds=Holds.ANCHORS)),
)
LAST = desired(agents=AGENTS, stores=STORES)

hosts = st.sampled_from(HOSTS)
waits = st.sampled_from([timedelta(0), timedelta(minutes=11), timedelta(hours=1)])
kills = st.none() | st.integers(0, 50)
troubles = st.sampled_from(
    [
        {"unreachable": "connection refused"},
        {"refuses": "the lock is held"},
        {"breaks_after": 0},
        {"breaks_after": 1},
        {"breaks_after": 2},
        {"breaks_at_hook": True},
        {"hook_fails": "no such unit"},
        {"store_fails": "no space left"},
        {"breaks_at_store": True},
        {"skew": timedelta(hours=1)},
    ]
)


@st.composite
def fleets(draw: st.DrawFn) -> Desired:
    """A playbook over some of the hosts, its policy and groups as they may come to be."""
    policy = draw(st.sampled_from([Policy.SHARED, Policy.PER_GROUP, Policy.PER_SERVER]))
    return desired(
        policy,
        servers=draw(st.sampled_from([SERVERS, SERVERS[:2], SERVERS[1:], SERVERS[::-1]])),
        agents=draw(st.sampled_from([AGENTS, AGENTS[:2], AGENTS[1:]])),
        origin=draw(st.sampled_from(list(Origin))) if policy is Policy.PER_SERVER else Origin.CONTROLLER,
        rollout=draw(st.sampled_from([IN_WAVES, AT_ONCE])),
        hooks=dict.fromkeys(SERVERS, "reload"),
        trusted_hooks=draw(st.sampled_from([{}, dict.fromkeys(AGENTS, "reload")])),
        stores=draw(st.sampled_from([NO_STORES, STORES, Stores(server=STORES.server[:1])])),
    )


class Hands(RuleBasedStateMachine):
    """People, hosts and time, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @property
    def under_way(self) -> Rollout | None:
        return self.world.recorded.running(MAIN)

    @contextmanager
    def tried(self, killed_after: int | None) -> Iterator[None]:
        """What may be refused, and may be cut short; nothing else may happen to it."""
        world = self.world
        world.eye.begins()
        if killed_after is not None:
            world.life.dies_after(killed_after)
        with suppress(KeyrelayError, KilledError):
            yield
        world.life.rise()

    def _live_key(self, server: HostName) -> str | None:
        key = self.world.live_key(server)
        known = (c.public for c in self.world.recorded.credentials.values() if c.public is not None)
        return next((public.thumbprint for public in known if public.spki_digest == key), None)

    @rule(wanted=fleets(), new_key=st.booleans(), wait=waits, killed_after=kills)
    def applies(self, wanted: Desired, new_key: bool, wait: timedelta, killed_after: int | None) -> None:  # noqa: FBT001  # a rule's argument
        with self.tried(killed_after):
            self.world.apply(wanted, new_key=new_key, wait=wait)

    @precondition(lambda self: MAIN in self.world.recorded.playbooks)
    @rule(wait=waits, killed_after=kills)
    def goes_on(self, wait: timedelta, killed_after: int | None) -> None:
        wanted = self.world.recorded.playbooks[MAIN]
        with self.tried(killed_after):
            if wait:
                self.world.apply(wanted, wait=wait)
            else:
                self.world.eye.check_end(watch_once(self.world.ports, wanted), wanted)

    @precondition(lambda self: self.under_way is not None)
    @rule()
    def pauses(self) -> None:
        if (rollout := self.under_way) is not None:
            with self.tried(None):
                pause(self.world.ports.ledger, rollout.id, clock=self.world.clock, reason="a person looks")

    @precondition(lambda self: self.under_way is not None)
    @rule(wait=waits, killed_after=kills)
    def resumes(self, wait: timedelta, killed_after: int | None) -> None:
        if (rollout := self.under_way) is not None:
            with self.tried(killed_after):
                resume(self.world.ports, rollout.id, wait=wait)

    @precondition(lambda self: self.under_way is not None)
    @rule(wait=waits, killed_after=kills)
    def reverts(self, wait: timedelta, killed_after: int | None) -> None:
        if (rollout := self.under_way) is not None:
            with self.tried(killed_after):
                revert(self.world.ports, rollout.id, wait=wait)

    @precondition(lambda self: self.under_way is not None)
    @rule(agent=st.sampled_from(AGENTS), killed_after=kills)
    def waives(self, agent: HostName, killed_after: int | None) -> None:
        wanted = self.world.recorded.playbooks[MAIN]
        if agent in wanted.agents():
            self.world.eye.waived.add(agent)
        with self.tried(killed_after):
            apply(self.world.ports, wanted, wait=SOAK, agree=lambda _: True, waive=(agent,))

    @rule(server=st.sampled_from(SERVERS), lost=st.booleans(), killed_after=kills)
    def ends_a_key(self, server: HostName, lost: bool, killed_after: int | None) -> None:  # noqa: FBT001  # a rule's argument
        key, live = self._live_key(server), self.world.live_key(server)
        if key is None or live is None:
            return
        if not lost:
            self.world.eye.leaked.add(live)
        with self.tried(killed_after):
            end_key(self.world.ports, key, lost=lost, reason="a person says so", wait=SOAK)

    @rule(host=hosts, give_up=st.booleans(), killed_after=kills)
    def removes(self, host: HostName, give_up: bool, killed_after: int | None) -> None:  # noqa: FBT001  # a rule's argument
        if give_up:
            self.world.eye.leaked |= set(self.world.eye._keys(host).values())
        with self.tried(killed_after):
            remove(self.world.ports, host, wait=SOAK, give_up=give_up)

    @rule(host=hosts, trouble=troubles)
    def is_troubled(self, host: HostName, trouble: dict[str, Any]) -> None:
        self.world.fleet.heal(host)
        self.world.fleet.trouble(host, **trouble)

    @rule(host=hosts)
    def is_well_again(self, host: HostName) -> None:
        self.world.fleet.heal(host)

    @rule(server=st.sampled_from(SERVERS))
    def base_goes(self, server: HostName) -> None:
        if server not in self.world.eye.away and self.world.fleet.hosts[server].credentials:
            self.world.base_goes(server)

    @precondition(lambda self: self.world.eye.away)
    @rule(data=st.data())
    def base_comes_back(self, data: st.DataObject) -> None:
        self.world.base_comes_back(data.draw(st.sampled_from(sorted(self.world.eye.away))))

    @rule(
        by=st.sampled_from(
            [timedelta(minutes=3), timedelta(minutes=15), timedelta(days=2), timedelta(days=250)]
        )
    )
    def time_passes(self, by: timedelta) -> None:
        if self.world.clock.now() + by < NOON + ISSUER_LASTS:
            self.world.clock.wait_until(self.world.clock.now() + by)

    def teardown(self) -> None:
        for server in sorted(self.world.eye.away):
            self.world.base_comes_back(server)
        for host in HOSTS:
            self.world.fleet.heal(host)
        self._until_nothing_is_paused()
        assert_settled(self.world, LAST)

    def _until_nothing_is_paused(self) -> None:
        """People look at what is paused, and go on; a server that went back may pause it again."""
        looks: list[Callable[[], object]] = [
            lambda: self.world.apply(LAST, wait=timedelta(hours=2)),
            lambda: resume(
                self.world.ports, str(self.under_way and self.under_way.id), wait=timedelta(hours=2)
            ),
        ]
        for look in looks * 2:
            if self.under_way is not None:
                with suppress(KeyrelayError):
                    look()


Hands.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestAnyHand = Hands.TestCase
