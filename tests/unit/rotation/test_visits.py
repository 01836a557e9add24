"""The values that go to hosts and come back."""

from orchestrator.inventory.model import HostName
from orchestrator.rotation.visits import READING, Challenge, Check, Fence, Sign, Survey


def test_a_challenge_is_bound_to_its_fleet_its_server_and_its_purpose() -> None:
    challenge = Challenge(fleet="f1", server=HostName("server-1"), nonce="00ff")
    assert challenge.text() == b"keyrelay proof 1\nf1\nserver-1\n00ff\n"


def test_fences_are_ordered_by_generation_first() -> None:
    assert Fence(generation=1, counter=900) < Fence(generation=2, counter=1)
    assert Fence(generation=2, counter=1) < Fence(generation=2, counter=2)


def test_only_orders_that_change_nothing_go_without_a_fence() -> None:
    assert set(READING) == {Survey, Sign, Check}
