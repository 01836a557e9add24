"""What the hosts of every ``Fleet`` remember: which ledger they followed, and which keys have ended."""

from dataclasses import replace
from typing import Literal

import pytest

from orchestrator.keys.material import SpkiDigest
from orchestrator.rotation import reports, visits
from orchestrator.rotation.observed import MOST_TOMBSTONES, Tombstone
from orchestrator.rotation.reports import Changed, Outcome, Refused, Unchanged
from orchestrator.rotation.visits import Fence, Order, Visit
from tests.fleet_worlds import AGENT, ONE, SERVER, TWO, World, bundle, key, stage

HERE, THERE = "a" * 64, "b" * 64
LATE = 4_000_000_000
"""A second that is not over for a long time."""


def fence(counter: int, head: str = HERE, *, generation: int = 1) -> Fence:
    return Fence(generation=generation, counter=counter, head=head)


def send(
    world: World, *orders: Order, shown: Fence, remembers: tuple[Fence, ...] | None = None, host: str = SERVER
) -> Outcome:
    endpoint = world.endpoint(AGENT if host == AGENT else SERVER)
    (outcome,) = world.fleet.run([Visit(endpoint=endpoint, orders=orders, fence=shown, remembers=remembers)])
    return outcome


def told(world: World, host: str = SERVER, *, whole: bool = False) -> reports.Surveyed:
    endpoint = world.endpoint(AGENT if host == AGENT else SERVER)
    (outcome,) = world.fleet.run([Visit(endpoint=endpoint, orders=(visits.Survey(whole=whole),))])
    assert isinstance(outcome, Unchanged)
    (report,) = outcome.reports
    assert isinstance(report, reports.Surveyed)
    return report


def test_a_host_remembers_which_entry_it_followed(world: World) -> None:
    assert (told(world).survey.fence, told(world).survey.head) == (None, "")
    send(world, stage(key()), shown=fence(3))
    assert (told(world).survey.fence, told(world).survey.head) == ((1, 3), HERE)
    send(world, visits.Survey(), shown=fence(4, ""))
    assert (told(world).survey.fence, told(world).survey.head) == ((1, 4), "")


def test_two_ledgers_at_one_number_are_told_apart(world: World) -> None:
    order = stage(key())
    send(world, order, shown=fence(3))

    outcome = send(world, order, shown=fence(3, THERE))

    assert isinstance(outcome, Refused)
    assert outcome.fenced
    assert outcome.reason == "fenced: a controller with another ledger was here, at 1.3 too"
    assert isinstance(send(world, order, shown=fence(3)), Unchanged)
    assert isinstance(send(world, order, shown=fence(3, "")), Unchanged)


def test_a_visit_begins_only_where_the_host_remembers_what_it_told(world: World) -> None:
    order = stage(key())
    assert isinstance(send(world, order, shown=fence(3), remembers=()), Changed)
    for stale in ((), (fence(2),), (fence(3, THERE),), (fence(3, ""),)):
        outcome = send(world, order, shown=fence(9), remembers=stale)
        assert isinstance(outcome, Refused)
        assert outcome.fenced
        assert outcome.reason.startswith("fenced: another controller was here since it was asked: 1.3, ")
    assert isinstance(send(world, order, shown=fence(4), remembers=(fence(3),)), Unchanged)
    assert isinstance(send(world, order, shown=fence(5)), Unchanged)
    assert told(world).survey.fence == (1, 5)


def test_a_host_that_has_forgotten_since_it_was_asked_is_refused_and_follows_no_other_ledger(
    world: World,
) -> None:
    order = stage(key())
    later = {
        "-, expected 1.3": fence(3),
        "1.3, expected 1.4": fence(4),
        "1.3, expected 2.1": fence(1, generation=2),
    }

    for numbers, asked in later.items():
        outcome = send(world, order, shown=fence(9), remembers=(asked,))
        assert isinstance(outcome, Refused)
        assert not outcome.fenced
        assert outcome.reason.endswith(f"is not as it was when it was asked: fence {numbers}")
        send(world, order, shown=fence(3))
    assert isinstance(send(world, order, shown=fence(4), remembers=(fence(3),)), Unchanged)


def test_a_controller_that_is_behind_is_fenced_and_an_ordinary_refusal_is_not(world: World) -> None:
    send(world, stage(key()), shown=fence(3, generation=2))

    behind = send(world, stage(key(), TWO), shown=fence(9))
    ordinary = send(world, stage(key()), shown=fence(9, generation=2))

    assert isinstance(behind, Refused)
    assert isinstance(ordinary, Refused)
    assert (behind.fenced, ordinary.fenced) == (True, False)


def test_hosts_remember_the_keys_that_ended_until_they_are_past(world: World) -> None:
    gone, over, leaked = (key().public.spki_digest for _ in range(3))
    removed = Tombstone(key=gone, how="removed", until=LATE)
    compromised = Tombstone(key=leaked, how="compromised", until=LATE + 1)
    past = Tombstone(key=over, how="lost", until=1000)
    send(world, stage(key()), shown=fence(3))

    send(world, visits.Erase(credentials=(TWO,), ends=(removed, past)), shown=fence(4))
    assert told(world).survey.ended == (removed,)
    send(world, visits.Erase(credentials=(ONE,), ends=(removed, compromised)), shown=fence(5))
    assert told(world).survey.ended == tuple(sorted((removed, compromised)))
    send(world, visits.Erase(credentials=(TWO,)), shown=fence(6))
    assert told(world).survey.ended == tuple(sorted((removed, compromised)))


def stones(number: int, how: Literal["removed", "compromised"], *, begins: str) -> tuple[Tombstone, ...]:
    """So many tombstones of keys whose digests begin so."""
    return tuple(
        Tombstone(key=SpkiDigest(f"{begins}{n:063x}"), how=how, until=LATE + n) for n in range(number)
    )


def test_where_there_is_no_room_keys_that_were_removed_are_forgotten_before_any_that_leaked(
    world: World,
) -> None:
    removed, leaked = stones(MOST_TOMBSTONES, "removed", begins="a"), stones(3, "compromised", begins="b")
    send(world, visits.Erase(credentials=(ONE,), ends=leaked), shown=fence(3))
    send(world, visits.Erase(credentials=(ONE,), ends=removed), shown=fence(4))

    remembered = told(world).survey.ended

    assert len(remembered) == MOST_TOMBSTONES
    assert set(leaked) < set(remembered)
    assert set(remembered) < {*leaked, *removed}


def test_a_leak_is_not_unsaid_by_the_word_that_the_key_was_removed(world: World) -> None:
    (leaked,) = stones(1, "compromised", begins="b")
    send(world, visits.Erase(credentials=(ONE,), ends=(leaked,)), shown=fence(3))
    send(world, visits.Erase(credentials=(ONE,), ends=(replace(leaked, how="removed"),)), shown=fence(4))
    assert told(world).survey.ended == (leaked,)


def test_a_host_that_would_have_to_forget_a_leaked_key_refuses(world: World) -> None:
    full = stones(MOST_TOMBSTONES, "compromised", begins="b")
    one_more = stones(1, "compromised", begins="c")
    send(world, visits.Erase(credentials=(ONE,), ends=full), shown=fence(3))

    outcome = send(world, visits.Erase(credentials=(ONE,), ends=one_more), shown=fence(4))

    assert isinstance(outcome, Refused)
    assert (
        outcome.reason
        == "no room to remember that another key leaked: it remembers 2000, and none has ended yet"
    )
    assert set(told(world).survey.ended) == set(full)


def test_an_agent_forgets_the_end_of_a_key_that_it_is_to_trust_again(world: World) -> None:
    one, two = key(), key()
    ends = tuple(Tombstone(key=pair.public.spki_digest, how="removed", until=LATE) for pair in (one, two))
    send(world, visits.Trust(bundle=bundle(1), ends=ends), shown=fence(3), host=AGENT)
    assert told(world, AGENT).survey.ended == tuple(sorted(ends))

    again = visits.Trust(bundle=bundle(2, two))
    send(world, again, shown=fence(4), host=AGENT)

    assert told(world, AGENT).survey.ended == ends[:1]
    assert isinstance(send(world, again, shown=fence(5), host=AGENT), Unchanged)


def test_an_order_that_changes_nothing_else_still_brings_its_tombstones(world: World) -> None:
    given = bundle(1, key())
    stone = Tombstone(key=key().public.spki_digest, how="lost", until=LATE)
    send(world, visits.Trust(bundle=given), shown=fence(3), host=AGENT)

    outcome = send(world, visits.Trust(bundle=given, ends=(stone,)), shown=fence(3), host=AGENT)

    assert isinstance(outcome, Unchanged)
    assert told(world, AGENT).survey.ended == (stone,)


@pytest.mark.parametrize("host", [SERVER, AGENT])
def test_a_whole_survey_tells_the_keys_and_certificates_themselves(world: World, host: str) -> None:
    pair = key()
    staged = stage(pair)
    order: Order = staged if host == SERVER else visits.Trust(bundle=bundle(1, pair))
    send(world, order, shown=fence(3), host=host)

    assert told(world, host).whole is None
    whole = told(world, host, whole=True).whole
    assert whole is not None
    assert whole.keys == {pair.public.spki_digest: pair.public}
    kept = {ONE: (staged.certificate_pem, staged.chain_pem)} if host == SERVER else {}
    assert whole.certificates == kept
