"""Key states follow from facts, and whatever facts follow each other, the table knows the move."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.keys.material import Algorithm
from orchestrator.policy.desired import KeySpec, Origin, PlaybookName, ScopeName
from orchestrator.rotation import settle
from orchestrator.rotation.lifecycle import KEY_MOVES, KeyState
from orchestrator.rotation.recorded import Credential
from orchestrator.rotation.settle import Facts, state_of
from orchestrator.rotation.visits import CredentialId
from tests.fakes import NOON
from tests.world import World, desired

KEY = CredentialId("ab" * 16)


def credential(*, in_vault: bool) -> Credential:
    return Credential(
        id=KEY,
        playbook=PlaybookName("main"),
        scope=ScopeName("all"),
        key=KeySpec(algorithm=Algorithm.ED25519, origin=Origin.CONTROLLER),
        servers=(),
        created=NOON,
        not_before=NOON,
        not_after=NOON + timedelta(days=1),
        in_flight=timedelta(0),
        grace=timedelta(0),
        state=KeyState.GENERATED,
        state_since=NOON,
        in_vault=in_vault,
    )


@st.composite
def states(draw: st.DrawFn, *, wanted: bool | None = None) -> KeyState:
    def some(*, true: bool) -> frozenset[CredentialId]:
        return frozenset({KEY}) if true else frozenset()

    facts = Facts(
        signing=some(true=draw(st.booleans())),
        held=some(true=draw(st.booleans())),
        trusted=some(true=draw(st.booleans())),
        wanted=some(true=draw(st.booleans()) if wanted is None else wanted),
        unproven=some(true=draw(st.booleans())),
    )
    return state_of(credential(in_vault=draw(st.booleans())), facts)


@given(before=states(), after=states())
def test_every_change_of_facts_is_a_move_of_the_table(before: KeyState, after: KeyState) -> None:
    """All but the one that plans never make: a key that is gone is no candidate for any server."""
    if before is KeyState.REMOVED and after in {KeyState.GENERATED, KeyState.PUBLISHED, KeyState.READY}:
        assert after not in KEY_MOVES[before]
    else:
        assert before is after or after in KEY_MOVES[before]


def state(**facts: bool) -> KeyState:
    told = {name: frozenset({KEY}) if facts.get(name) else frozenset() for name in Facts.__dataclass_fields__}
    return state_of(credential(in_vault=facts.get("in_vault", False)), Facts(**told))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"signing": True}, KeyState.ACTIVE),
        ({"signing": True, "wanted": True, "unproven": True}, KeyState.ACTIVE),
        ({"wanted": True}, KeyState.READY),
        ({"wanted": True, "unproven": True, "trusted": True}, KeyState.PUBLISHED),
        ({"wanted": True, "unproven": True, "held": True}, KeyState.GENERATED),
        ({"trusted": True}, KeyState.RETIRED),
        ({"held": True}, KeyState.RETIRED),
        ({"in_vault": True}, KeyState.RETIRED),
        ({}, KeyState.REMOVED),
    ],
)
def test_a_state_is_a_conclusion(facts: dict[str, bool], expected: KeyState) -> None:
    assert state(**facts) is expected


def test_a_move_that_the_table_does_not_know_stops_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.apply(desired())
    world.apply(desired(), new_key=True)
    monkeypatch.setattr(settle, "state_of", lambda _credential, _facts: KeyState.READY)
    with pytest.raises(ValueError, match="a key cannot go from removed to ready"):
        settle.settle(world.recorded, at=NOON)
