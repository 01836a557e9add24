"""The questions a record answers, with everything uncertain counted the safe way."""

from dataclasses import replace
from datetime import timedelta

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import Position
from orchestrator.operations.replace_issuer import rotate_issuer
from orchestrator.operations.watch import watch_once
from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation.belief import vouched_lines
from orchestrator.rotation.recorded import Installed, Intent, Recorded, TrustLine
from orchestrator.rotation.visits import CredentialId
from tests.fakes import NOON
from tests.unit.rotation.chronicle import intended
from tests.world import AGENTS, SERVERS, World, desired

KEY = CredentialId("ab" * 16)
NOBODY = HostName("nobody")


def test_lines_are_equal_whatever_their_time() -> None:
    line = TrustLine(server=SERVERS[0], credential=KEY)
    assert line == replace(line, since=NOON)
    assert len({line, replace(line, since=NOON)}) == 1


def test_nobody_is_known_to_an_empty_ledger() -> None:
    empty = Recorded()
    assert empty.may_sign(NOBODY) == empty.may_hold(NOBODY) == frozenset()
    assert list(empty.bundles(NOBODY)) == []
    assert empty.settled_bundle(NOBODY) is None
    assert empty.running(PlaybookName("main")) is None
    assert empty.elsewhere(PlaybookName("main")) == {}


def test_what_a_visit_may_have_brought_is_held_until_it_is_known() -> None:
    world = World()
    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:1]))
    before = world.recorded
    unsure = intended(before, Intent(host=SERVERS[0], stages=(KEY,), activates=KEY))
    assert unsure.may_hold(SERVERS[0]) == before.may_hold(SERVERS[0]) | {KEY}
    assert unsure.may_sign(SERVERS[0]) == before.may_sign(SERVERS[0]) | {KEY}
    assert unsure.without_pending(SERVERS[0]).may_sign(SERVERS[0]) == before.may_sign(SERVERS[0])
    assert before.without_pending(SERVERS[0]) is before


def test_the_position_is_that_of_the_last_bundle_sent_out_whether_it_came_or_not() -> None:
    sent = Installed(position=Position(epoch=1, sequence=9), digest="d", content="c", lines=())
    recorded = intended(Recorded(position=Position(epoch=1, sequence=4)), Intent(host=AGENTS[0], bundle=sent))
    assert recorded.position == Position(epoch=1, sequence=9)


def test_agents_listen_to_the_servers_of_all_their_playbooks() -> None:
    world = World()
    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:2], name="one"))
    world.apply(desired(servers=SERVERS[1:2], agents=AGENTS[1:], name="two"))
    listens = world.recorded.listens()
    assert listens[AGENTS[1]] == {SERVERS[0], SERVERS[1]}
    assert world.recorded.listeners()[SERVERS[1]] == AGENTS[1:]
    assert world.recorded.elsewhere(PlaybookName("one")) == {AGENTS[2]: "two"}
    assert world.recorded.elsewhere(PlaybookName("two")) == {AGENTS[0]: "one"}


def test_the_strictest_playbook_of_a_host_says_how_far_its_clock_may_be_off() -> None:
    world = World()
    one = desired(servers=SERVERS[:1], agents=AGENTS[:1], name="one")
    strict = replace(one.messages, clock_skew=timedelta(seconds=2))
    world.apply(one)
    world.apply(
        replace(desired(servers=SERVERS[1:2], agents=AGENTS[:1], name="two"), messages=strict),
    )
    assert world.recorded.allowed_skew(AGENTS[0]) == timedelta(seconds=2)
    assert world.recorded.allowed_skew(SERVERS[0]) == timedelta(seconds=30)
    assert world.recorded.allowed_skew(NOBODY) == timedelta.max


def test_every_issuer_that_has_ever_certified_a_key_may_vouch_for_it() -> None:
    """A key that agents know is certified anew by whoever certifies then; what it had stays good."""
    world = World()
    wanted = desired(servers=SERVERS[:1], agents=AGENTS[:1], lifetime=timedelta(days=90))
    world.apply(wanted)
    (key,) = world.recorded.credentials
    world.fleet.trouble(AGENTS[0], unreachable="off")
    rotate_issuer(world.ports, wait=timedelta(0))
    world.clock.wait_until(world.clock.now() + timedelta(days=80))
    watch_once(world.ports, wanted)
    earlier, present = (issuer.key for issuer in world.recorded.own_issuers())
    credential = world.recorded.credentials[key]
    assert credential.prolonged
    assert world.recorded.issuer_of(credential, SERVERS[0]) == present
    assert vouched_lines(world.recorded, credential) == {
        TrustLine(server=SERVERS[0], issuer=issuer) for issuer in (earlier, present)
    }
