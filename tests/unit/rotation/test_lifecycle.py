"""The table: what it says of every state and step, and what it refuses."""

import pytest

from orchestrator.rotation.lifecycle import (
    ENDED,
    KEY_MEANINGS,
    KEY_MOVES,
    STEPS,
    KeyState,
    Phase,
    Step,
    check_move,
)


def test_every_state_has_a_meaning_and_its_moves() -> None:
    assert set(KEY_MEANINGS) == set(KEY_MOVES) == set(KeyState)


def test_every_step_has_its_rule_in_order_and_phases_never_go_back() -> None:
    assert list(STEPS) == list(Step)
    first, *rest = STEPS.items()
    assert first[0] is Step.EXPEL
    phases = [list(Phase).index(rule.phase) for _, rule in rest]
    assert phases == sorted(phases)


def test_every_move_says_why() -> None:
    assert all(why for moves in KEY_MOVES.values() for why in moves.values())


def test_no_state_moves_to_itself() -> None:
    assert not [state for state, moves in KEY_MOVES.items() if state in moves]


def test_a_removed_key_is_never_wanted_again_only_found() -> None:
    assert set(KEY_MOVES[KeyState.REMOVED]) == {KeyState.ACTIVE, KeyState.RETIRED, *ENDED}


def test_a_legal_move_passes() -> None:
    check_move(KeyState.READY, KeyState.ACTIVE)


def test_an_illegal_move_names_the_legal_ones() -> None:
    with pytest.raises(
        ValueError,
        match=r"cannot go from removed to ready; .* it can go to: compromised, lost, active, retired",
    ):
        check_move(KeyState.REMOVED, KeyState.READY)
