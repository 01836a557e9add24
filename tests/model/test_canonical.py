"""What makes two states one loses none: what is found without it is found with it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from unittest.mock import patch

import pytest

from tests.model.canonical import Canon
from tests.model.configurations import fleet, sharing, whole_runs
from tests.model.material import cheap
from tests.model.moves import Configuration, Label
from tests.model.search import _Search
from tests.model.state import State
from tests.model.swift import swift
from tests.model.view import Ahead

CONFIGURATIONS = (
    sharing(1, new_keys=1, faults=0),
    pytest.param(sharing(1, new_keys=1, compromises=1, faults=0), marks=pytest.mark.long),
    pytest.param(sharing(1, new_keys=1, reverts=1, compromises=1, faults=0), marks=pytest.mark.long),
    sharing(2, joining=True, reverts=1, waivers=1, faults=0),
    whole_runs(sharing(1, new_keys=1, reverts=1, faults=1)),
    fleet(1, 2, new_keys=1, reverts=1, faults=0),
    fleet(1, 1, new_keys=1, reverts=1, snapshots=1, mishaps=1),
)


class _Kept(_Search):
    """A search that keeps every state."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        self.states: list[State] = []

    def _admit(self, before: State, after: State, parent: int, label: Label) -> int:
        number = super()._admit(before, after, parent, label)
        if number == len(self.states):
            self.states.append(self.queue[-1][1])
        return number

    def covers(self, state: State) -> bool:
        key, _, duties = self.canon(state)
        return self._covered_by(key, state.left.rank(), duties) is not None


@pytest.fixture(autouse=True)
def _fast() -> Iterator[None]:
    with cheap(), swift():
        yield


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=lambda configuration: configuration.name)
def test_every_state_found_in_full_detail_is_covered_by_one_found_in_less(
    configuration: Configuration,
) -> None:
    fewer = _Kept(configuration)
    fewer.run(nullcontext)
    with ExitStack() as stack:
        for each in _in_full_detail():
            stack.enter_context(each)
        first = configuration.symmetry.orders[:1]
        every = _Kept(replace(configuration, symmetry=replace(configuration.symmetry, orders=first)))
        every.run(nullcontext)
    assert len(fewer.states) < len(every.states)
    assert [state for state in every.states if not fewer.covers(state)] == []
    assert fewer.found.violations == every.found.violations == []


def _in_full_detail() -> Iterator[AbstractContextManager[object]]:
    """All is told as if anything might still befall hosts, and no state covers one of which less is told."""
    real: Callable[[State], Ahead] = Ahead.of
    yield patch.object(Ahead, "of", lambda state: replace(real(state), befalls=True))
    yield patch.object(Canon, "every", Canon._in_every_order)
    yield patch.object(Canon, "at_work", lambda _canon, key: iter([key]))


def test_two_playbooks_that_ask_for_the_same_halve_the_search() -> None:
    configuration = sharing(1, new_keys=1, faults=0)
    first = configuration.symmetry.orders[:1]
    plain = _Kept(replace(configuration, symmetry=replace(configuration.symmetry, orders=first)))
    turned = _Kept(configuration)
    plain.run(nullcontext)
    turned.run(nullcontext)
    assert len(turned.states) == (len(plain.states) + 1) // 2
    assert turned.found.ends == (plain.found.ends + 1) // 2
