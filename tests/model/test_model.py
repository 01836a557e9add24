"""The engine, explored: within small bounds here, further with ``make model``."""

import pytest

from orchestrator.policy.desired import Policy
from tests.model.configurations import fleet
from tests.model.search import search, show


@pytest.mark.parametrize(
    ("agents", "servers", "policy"),
    [(1, 1, Policy.PER_SERVER), (2, 1, Policy.PER_SERVER), (1, 2, Policy.SHARED)],
)
def test_a_new_key_is_handed_over_whatever_is_lost(agents: int, servers: int, policy: Policy) -> None:
    found = search(fleet(agents, servers, policy, new_keys=1))
    assert found.complete
    assert found.violations == [], show(found)
    assert found.states > 50


def test_a_rollout_can_be_taken_back_at_any_point_before_retirement() -> None:
    found = search(fleet(1, 1, Policy.PER_SERVER, new_keys=1, reverts=1))
    assert found.complete
    assert found.violations == [], show(found)
