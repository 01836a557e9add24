"""What the end of a visit changes in the record."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.policy.desired import Origin
from orchestrator.rotation import reports as rp
from orchestrator.rotation import visits as vs
from orchestrator.rotation.recorded import Evidence, Intent, Proof, Recorded, Standing, TrustLine
from orchestrator.rotation.reports import Verdict
from orchestrator.rotation.visits import CredentialId
from tests.fakes import NOON
from tests.unit.rotation.chronicle import ended, intended
from tests.world import AGENTS, SERVERS, World, desired

SERVER, AGENT = SERVERS[0], AGENTS[0]
LATER = NOON + timedelta(minutes=1)


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    """A handover that stopped while the old key stands by."""
    world = World()
    wanted = desired(servers=SERVERS[:1], agents=AGENTS[:1])
    world.apply(wanted)
    world.apply(wanted, new_key=True, wait=timedelta(0))
    return world.recorded


def standing_of(recorded: Recorded, standing: Standing) -> CredentialId:
    (found,) = [c for c, p in recorded.servers[SERVER].placements.items() if p.standing is standing]
    return found


def changed(*reports: rp.Report, skew: timedelta = timedelta(0)) -> rp.Changed:
    return rp.Changed(host=SERVER, reports=reports, skew=skew)


def test_an_unreachable_host_is_as_it_was(recorded: Recorded) -> None:
    before = intended(recorded, Intent(host=SERVER, erases=(standing_of(recorded, Standing.STANDBY),)))
    after = ended(before, rp.Unreachable(host=SERVER, reason="off"), at=LATER)
    assert after.servers == recorded.servers
    assert not after.pending
    assert (after.contacts[SERVER].failing_since, after.contacts[SERVER].reason) == (LATER, "off")


def test_failures_keep_when_they_began(recorded: Recorded) -> None:
    first = ended(recorded, rp.Unreachable(host=SERVER, reason="off"), at=NOON)
    second = ended(first, rp.Failed(host=SERVER, reason="lost", skew=timedelta(seconds=2)), at=LATER)
    contact = second.contacts[SERVER]
    assert (contact.failing_since, contact.reason) == (NOON, "lost")
    assert contact.skew == timedelta(seconds=2)
    assert ended(second, changed(), at=LATER).contacts[SERVER].failing_since is None


def test_a_failed_visit_stays_pending_with_what_it_reported(recorded: Recorded) -> None:
    old = standing_of(recorded, Standing.STANDBY)
    before = intended(recorded, Intent(host=SERVER, disarms=(old,)))
    report = rp.Disarmed(credentials=(old,), changed=True)
    after = ended(before, rp.Failed(host=SERVER, reason="lost", reports=(report,)), at=LATER)
    assert after.servers[SERVER].placements[old].standing is Standing.DISARMED
    assert SERVER in after.pending


def test_a_refused_visit_is_over_with_what_it_reported(recorded: Recorded) -> None:
    old = standing_of(recorded, Standing.STANDBY)
    before = intended(recorded, Intent(host=SERVER, disarms=(old,)))
    report = rp.Disarmed(credentials=(old,), changed=True)
    after = ended(before, rp.Refused(host=SERVER, reason="no", reports=(report,)), at=LATER)
    assert after.servers[SERVER].placements[old].standing is Standing.DISARMED
    assert SERVER not in after.pending


def test_a_key_that_is_disarmed_is_remembered_for_its_messages_under_way(recorded: Recorded) -> None:
    old = standing_of(recorded, Standing.STANDBY)
    after = ended(recorded, changed(rp.Disarmed(credentials=(old,), changed=True)), at=LATER)
    assert after.servers[SERVER].cleared == {old: LATER}
    again = ended(
        after,
        changed(rp.Disarmed(credentials=(old,), changed=False)),
        at=LATER + timedelta(hours=1),
    )
    assert again.servers[SERVER].cleared == {old: LATER}


def test_a_key_in_use_again_has_no_end_any_more(recorded: Recorded) -> None:
    old = standing_of(recorded, Standing.STANDBY)
    disarmed = ended(recorded, changed(rp.Disarmed(credentials=(old,), changed=True)), at=LATER)
    back = ended(disarmed, changed(rp.Reverted(credential=old, signature="", changed=True)), at=LATER)
    assert back.servers[SERVER].cleared == {}
    assert back.servers[SERVER].placements[old].standing is Standing.ACTIVE


def test_a_switch_makes_the_other_key_stand_by(recorded: Recorded) -> None:
    old, new = (standing_of(recorded, s) for s in (Standing.STANDBY, Standing.ACTIVE))
    after = ended(recorded, changed(rp.Reverted(credential=old, signature="", changed=True)), at=LATER)
    assert after.servers[SERVER].placements[new].standing is Standing.STANDBY
    assert after.servers[SERVER].placements[new].since == LATER
    assert after.may_sign(SERVER) == {old, new}


def test_switching_to_what_is_in_use_does_not_start_its_soak_anew(recorded: Recorded) -> None:
    new = standing_of(recorded, Standing.ACTIVE)
    since = recorded.servers[SERVER].placements[new].since
    after = ended(recorded, changed(rp.Activated(credential=new, signature="", changed=False)), at=LATER)
    assert after.servers[SERVER].placements[new].since == since


def test_a_signature_from_a_host_with_a_wrong_clock_is_no_claim(recorded: Recorded) -> None:
    new = standing_of(recorded, Standing.ACTIVE)
    challenge = vs.Challenge(fleet=recorded.fleet, server=SERVER, nonce="ff")
    before = intended(recorded, Intent(host=SERVER, challenges={new: challenge}))
    report = rp.Staged(credential=new, signature="ff", changed=False)
    kept = recorded.servers[SERVER].placements[new].claim
    late = ended(before, changed(report, skew=timedelta(hours=1)), at=LATER)
    assert late.servers[SERVER].placements[new].claim == kept
    timely = ended(before, changed(report), at=LATER)
    claim = timely.servers[SERVER].placements[new].claim
    assert claim is not None
    assert claim.challenge == challenge


def test_staging_again_what_is_in_use_leaves_it_in_use(recorded: Recorded) -> None:
    new = standing_of(recorded, Standing.ACTIVE)
    after = ended(recorded, changed(rp.Staged(credential=new, signature="", changed=False)), at=LATER)
    assert after.servers[SERVER].placements[new].standing is Standing.ACTIVE


def test_a_signature_that_nobody_asked_for_is_no_claim() -> None:
    world = World()
    wanted = desired(servers=SERVERS[:1], agents=AGENTS[:1], origin=Origin.SERVER)
    world.fleet.trouble(SERVER, unreachable="off")
    world.apply(wanted)
    (new,) = world.recorded.credentials
    staged = changed(rp.Staged(credential=new, signature="ff", changed=True))
    after = ended(world.recorded, staged, at=LATER)
    assert after.servers[SERVER].placements[new].claim is None


def proofs(*lines: TrustLine) -> tuple[Proof, ...]:
    return tuple(Proof(line=line, nonce="aa" * 32) for line in lines)


def trusted(recorded: Recorded, *verdicts: Verdict) -> tuple[Recorded, rp.Trusted]:
    """The record with one more bundle under way to the agent, and the agent's report of it."""
    installed = recorded.agents[AGENT].installed
    assert installed is not None
    bundle = replace(installed, digest="new", evidence=Evidence.INTENDED)
    lines = installed.lines[: len(verdicts)]
    before = intended(recorded, Intent(host=AGENT, bundle=bundle, proves=proofs(*lines)))
    return before, rp.Trusted(position=bundle.position, digest="new", verdicts=verdicts, changed=True)


def test_only_lines_with_a_good_verdict_are_proven(recorded: Recorded) -> None:
    before, report = trusted(recorded, Verdict.VALID, Verdict.INVALID)
    after = ended(before, rp.Changed(host=AGENT, reports=(report,)), at=LATER)
    installed = after.agents[AGENT].installed
    assert installed is not None
    assert (installed.digest, installed.evidence) == ("new", Evidence.REPORTED)
    assert after.agents[AGENT].proven.keys() == set(installed.lines[:1])
    assert {proof.at for proof in after.agents[AGENT].proven.values()} == {LATER}


def test_a_wrong_clock_installs_and_proves_nothing(recorded: Recorded) -> None:
    before, report = trusted(recorded, Verdict.VALID)
    after = ended(before, rp.Refused(host=AGENT, reason="", reports=(report,), skew=timedelta(hours=1)))
    assert not after.agents[AGENT].proven
    assert not after.pending


def test_while_a_bundle_is_under_way_neither_is_certain(recorded: Recorded) -> None:
    before, _ = trusted(recorded)
    assert before.settled_bundle(AGENT) is None
    assert [bundle.digest for bundle in before.bundles(AGENT)][1] == "new"


@pytest.mark.parametrize(("digest", "proven"), [("right", 1), ("other", 0)])
def test_verdicts_count_only_with_the_bundle_that_is_in_use(
    recorded: Recorded, digest: str, proven: int
) -> None:
    record = recorded.agents[AGENT]
    assert record.installed is not None
    line = record.installed.lines[0]
    forgot = recorded.with_agent(AGENT, replace(record, proven={}))
    before = intended(forgot, Intent(host=AGENT, proves=proofs(line)))
    used = record.installed.digest if digest == "right" else digest
    report = rp.Checked(digest=used, verdicts=(Verdict.VALID,))
    after = ended(before, rp.Unchanged(host=AGENT, reports=(report,)))
    assert len(after.agents[AGENT].proven) == proven


def test_reading_changes_no_record(recorded: Recorded) -> None:
    new = standing_of(recorded, Standing.ACTIVE)
    signed = rp.Signed(credential=new, signature="ff")
    checked = rp.Checked(digest="", verdicts=())
    after = ended(recorded, rp.Unchanged(host=SERVER, reports=(signed, checked), skew=timedelta(hours=9)))
    assert (after.servers, after.agents) == (recorded.servers, recorded.agents)


def test_a_key_that_was_missed_is_found_again_where_it_is_staged_anew(recorded: Recorded) -> None:
    old = standing_of(recorded, Standing.STANDBY)
    server = recorded.servers[SERVER]
    placements = {c: p for c, p in server.placements.items() if c != old}
    missed = recorded.with_server(SERVER, replace(server, placements=placements, missing={old: NOON}))
    before = intended(missed, Intent(host=SERVER, stages=(old,)))
    after = ended(before, changed(rp.Staged(credential=old, signature="", changed=True)), at=LATER)
    assert after.servers[SERVER].placements[old].standing is Standing.STANDBY
    assert not after.servers[SERVER].missing
    assert old in after.may_sign(SERVER)
