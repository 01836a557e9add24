"""The fleet in memory ends every visit as real hosts do, whatever is asked of them in whatever order."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.keys.material import Algorithm
from orchestrator.lab import Lab
from orchestrator.rotation import reports as rp
from orchestrator.rotation import visits
from orchestrator.rotation.reports import Outcome, Report
from orchestrator.rotation.visits import READING, Claim, CredentialId, Fence, Hook, Order, Visit
from tests.fleet_worlds import (
    AGENT,
    ONE,
    SERVER,
    TWO,
    InMemory,
    OverSsh,
    World,
    activate,
    bundle,
    challenge,
    claim,
    delegating,
    key,
    revert,
    stage,
    vouched,
    vouching,
)

PAIRS = {ONE: (key(), key(Algorithm.ECDSA_P256)), TWO: (key(), key())}
SECOND = timedelta(seconds=1)
CLAIMS = tuple(claim(pair) for pairs in PAIRS.values() for pair in pairs)
ISSUERS = (vouching(), vouching())
HOOKS: Mapping[str, Hook | None] = {
    "none": None,
    "works": Hook(command="true"),
    "fails": Hook(command="echo not today; exit 1"),
}

SERVES = PAIRS[ONE][0].private
"""The key that a service loaded once and for all, where it is asked at all."""

ids = st.sampled_from([ONE, TWO])
some_ids = st.sets(ids).map(lambda found: tuple(sorted(found)))


def _stage(credential: CredentialId, which: int, *, own: bool) -> visits.Stage:
    return stage(PAIRS[credential][which], credential, own=own)


def _generate(credential: CredentialId) -> visits.Generate:
    return visits.Generate(credential=credential, algorithm=Algorithm.ED25519, names=(SERVER,))


def _trust(sequence: int, which: int, hook: Hook | None) -> visits.Trust:
    hooks = (hook,) if hook is not None else ()
    wanted = bundle(sequence, PAIRS[ONE][which], PAIRS[TWO][0])
    return visits.Trust(bundle=wanted, claims=CLAIMS[:2], hooks=hooks)


@cache
def vouched_claims() -> tuple[Claim, ...]:
    """Claims by certificates; made when they are first used, for they do not last."""
    first, other = ISSUERS
    pairs = PAIRS[ONE]
    return (
        vouched(pairs[0], first),
        vouched(pairs[1], other),
        vouched(pairs[0], other, told=first),
        vouched(pairs[0], first, altered=True),
        vouched(pairs[1], first, ended=True),
        vouched(pairs[1], first, server=AGENT),
    )


def _delegate(sequence: int, which: int, *, denied: bool) -> visits.Trust:
    named = PAIRS[ONE][:1] if denied else ()
    return visits.Trust(bundle=delegating(sequence, ISSUERS[which], denied=named), claims=vouched_claims())


def _check(*, by_certificate: bool) -> visits.Check:
    return visits.Check(claims=vouched_claims() if by_certificate else CLAIMS)


@pytest.fixture(scope="module")
def prove(tmp_path_factory: pytest.TempPathFactory) -> Hook:
    key = tmp_path_factory.mktemp("service") / "key.pem"
    key.write_bytes(SERVES.reveal())
    return Hook(command=f"openssl pkeyutl -sign -rawin -inkey {key} -in /dev/stdin", timeout=SECOND)


def by_the_service(order: Order, prove: Hook) -> Order:
    """The order, for a server whose service has to show the key."""
    match order:
        case visits.Activate() | visits.Revert() | visits.Sign():
            return replace(order, prove=prove)
        case _:
            return order


def orders(hook: Hook | None) -> st.SearchStrategy[Order]:
    return st.one_of(
        st.builds(_generate, ids),
        st.builds(_stage, ids, st.integers(0, 1), own=st.sampled_from([False, False, True])),
        st.builds(_trust, st.integers(1, 3), st.integers(0, 1), st.just(hook)),
        ids.map(lambda credential: activate(credential, hook=hook)),
        ids.map(lambda credential: replace(revert(credential), hook=hook)),
        st.builds(visits.Disarm, credentials=some_ids, in_use=st.none() | ids),
        st.builds(visits.Erase, credentials=some_ids),
        st.builds(lambda: visits.Sign(challenge=challenge())),
        st.builds(_delegate, st.integers(1, 3), st.integers(0, 1), denied=st.booleans()),
        st.builds(_check, by_certificate=st.booleans()),
    )


asked = st.sampled_from(sorted(HOOKS)).flatmap(
    lambda name: st.tuples(
        st.just(name), st.lists(orders(HOOKS[name]), min_size=1, max_size=3), st.integers(1, 4)
    )
)


def make(world: World, name: str, wanted: list[Order], counter: int) -> Outcome:
    if isinstance(world, InMemory):
        world.fake.trouble(SERVER, hook_fails="not today" if name == "fails" else None, serves=SERVES)
    mutating = any(not isinstance(order, READING) for order in wanted)
    fence = Fence(generation=1, counter=counter) if mutating else None
    (outcome,) = world.fleet.run(
        [Visit(endpoint=world.endpoint(SERVER), orders=(*wanted, visits.Survey()), fence=fence)]
    )
    return outcome


def told(outcome: Outcome) -> tuple[str, list[object]]:
    """What must be equal: all but reasons, skews, signatures, and keys made on the host."""
    reports = () if isinstance(outcome, rp.Unreachable) else outcome.reports
    return outcome.kind, [_told(report) for report in reports]


def _told(report: Report) -> object:
    match report:
        case rp.Staged() | rp.Activated() | rp.Reverted() | rp.Signed():
            return replace(report, signature="")
        case rp.Generated():
            return replace(report, request_pem="")
        case rp.Surveyed(survey=survey):
            given_keys = {pair.public.spki_digest for pairs in PAIRS.values() for pair in pairs}
            held = tuple(
                one if one.key in given_keys else replace(one, key=None) for one in survey.credentials
            )
            bundle = survey.bundle and replace(survey.bundle, keys=tuple(sorted(survey.bundle.keys)))
            return replace(survey, user="", openssl="", credentials=held, bundle=bundle)
        case _:
            return report


@given(script=st.lists(asked, min_size=1, max_size=6), serves=st.booleans())
@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_visits_in_any_order_end_alike_in_memory_and_over_ssh(
    shared_lab: Lab, prove: Hook, script: list[tuple[str, list[Order], int]], *, serves: bool
) -> None:
    memory, real = InMemory(), OverSsh(shared_lab)
    with real.ssh:
        for name, wanted, counter in script:
            asked = [by_the_service(order, prove) for order in wanted] if serves else wanted
            step = (name, asked, counter)
            assert told(make(memory, *step)) == told(make(real, *step))
        last: tuple[str, list[Order], int] = ("none", [], 1)
        assert told(make(memory, *last)) == told(make(real, *last))
