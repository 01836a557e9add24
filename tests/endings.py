"""What must be true once faults have stopped: a few runs end all work, and hosts are as they should be."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from orchestrator.errors import RefusedError
from orchestrator.operations.apply import Applied
from orchestrator.operations.audit import audit
from orchestrator.operations.prove import prove
from orchestrator.policy.desired import Desired
from orchestrator.rotation.drift import Drift
from orchestrator.rotation.installing import Manifests
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.moving import together
from tests.fake_state import filled
from tests.world import Silent, World

ENOUGH = 4
"""So many rounds of runs, each long enough to wait for everything, must be enough."""


def settle_down(world: World, wanted: Sequence[Desired]) -> list[Applied]:
    """Apply every playbook until nothing is left to do; what the last round came to."""
    applied: list[Applied] = []
    for _ in range(ENOUGH):
        applied = []
        for group in together(world.recorded, wanted):
            with suppress(RefusedError):
                applied += world.apply_in_one_go(group, wait=timedelta(hours=2))
    return applied


def assert_settled(world: World, *wanted: Desired) -> None:
    """Runs end (L1), the next one changes nothing (L2), and every host is as it should be."""
    last = settle_down(world, wanted)
    assert len(last) == len(wanted)
    for applied in last:
        assert applied.complete
        assert applied.result is None, applied.prepared.plan.changes
    recorded = world.recorded
    assert not recorded.pending
    assert not [host for host, state in world.fleet.hosts.items() if state.hook_pending or state.untold]
    assert all(rollout.ended is not None for rollout in recorded.rollouts.values())
    states = {credential.state for credential in recorded.credentials.values()}
    assert states <= {KeyState.ACTIVE, KeyState.REMOVED}
    targets = {record.target for record in recorded.servers.values()}
    server_made = {c.id for c in recorded.credentials.values() if not c.in_vault}
    assert set(world.vault.kept) == targets - server_made
    manifests = Manifests.of(recorded)
    for server in recorded.servers:
        host = world.fleet.hosts[server]
        assert (set(host.credentials), dict(host.disarmed)) == ({recorded.servers[server].target}, {})
        manifest, folder = manifests.server(server), host.credentials[str(recorded.servers[server].target)]
        assert host.server_stores == filled(manifest, recorded.servers[server].target, folder)
    for agent, servers in recorded.listens().items():
        assert world.fleet.hosts[agent].agent_stores == filled(manifests.agent(agent))
        told = {(s, k) for s in servers for k in world.trusted(agent, s)}
        assert told == {(server, world.live_key(server)) for server in servers}
    found = audit({}, ledger=world.ledger, fleet=world.fleet, clock=world.clock, progress=Silent())
    assert [f for f in found.findings if f.drift is not Drift.OK] == []
    edges = prove({}, ledger=world.ledger, fleet=world.fleet, entropy=world.entropy, progress=Silent())
    assert [edge for edge in edges if not edge.holds] == []
    assert world.ledger.verify() == recorded.version
