"""What a plan says to people."""

from dataclasses import replace

from orchestrator.operations.planning import Prepared
from orchestrator.policy.desired import Desired
from orchestrator.views.plans import plan_answer
from tests.world import AGENTS, SERVERS, World, desired

WANTED = desired(servers=SERVERS[:1], agents=AGENTS[:1])
CLOSED = replace(WANTED, key=replace(WANTED.key, exportable=False))


def said(world: World, wanted: Desired) -> list[object]:
    return list(plan_answer(prepared(world, wanted)).body)


def prepared(world: World, wanted: Desired) -> Prepared:
    return world.prepare(wanted)


def test_a_change_that_no_host_sees_is_named_and_is_not_nothing() -> None:
    world = World()
    world.apply(WANTED)
    assert "nothing to do: 2 hosts are as the playbook asks" in said(world, WANTED)

    closing = said(world, CLOSED)
    assert "no host changes; what the playbook says now holds once it is applied" in closing
    assert any("no key may be exported (exportable: no); until then they may" in str(one) for one in closing)

    world.apply(CLOSED)
    assert "nothing to do: 2 hosts are as the playbook asks" in said(world, CLOSED)
    assert "keys that are made once this is applied may be exported" in said(world, WANTED)
