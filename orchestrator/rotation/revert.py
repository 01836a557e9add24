"""Taking a rollout back: every server to the key it had, as a rollout of its own (L5).

It is possible until an old key is put away, or may have been, by a visit whose end is not known. From then on
the way back is the way forward: a new rollout to another key.
"""

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.keys.material import Random
from orchestrator.rotation.events import RolloutStarted
from orchestrator.rotation.recorded import SIGNING, Recorded, Rollout, RolloutId, Standing
from orchestrator.rotation.visits import CredentialId


def plan_revert(recorded: Recorded, rollout: Rollout, *, random: Random) -> RolloutStarted:
    """The rollout that takes ``rollout`` back.

    Servers and agents that came with it leave again, and policies go back with the keys.

    Raises:
        RefusedError: it has ended, it was the first, it takes back another itself, an old key is put away, or
            was ended by a person.
    """
    if rollout.ended is not None:
        raise RefusedError(
            f"rollout {rollout.id} has ended, so its old keys are gone",
            hint="To go to other keys, change the playbook, or: keyrelay apply --new-key",
        )
    if rollout.reverts is not None:
        raise RefusedError(
            f"rollout {rollout.id} takes back rollout {rollout.reverts} already",
            hint="To go forward again: keyrelay apply",
        )
    if rollout.before is None:
        raise RefusedError(
            f"rollout {rollout.id} was the first of playbook {rollout.playbook!r}: nothing was before it",
            hint="To take hosts out, take them out of the playbook and apply it.",
        )
    before = rollout.before
    earlier = (recorded.credentials[_earlier(recorded, rollout, server)] for server in before.servers())
    ended = [credential for credential in earlier if credential.ended or credential.over]
    if ended:
        raise RefusedError(
            f"rollout {rollout.id} cannot be taken back: a key it came from is {ended[0].ended or 'over'}",
            hint="It can only go forward: keyrelay apply",
        )
    back = {server: _earlier(recorded, rollout, server) for server in before.servers()}
    leaving = {
        server: None
        for server, record in recorded.servers.items()
        if record.playbook == rollout.playbook and server not in back
    }
    return RolloutStarted(
        rollout=RolloutId(random(8).hex()),
        desired=before,
        new=(),
        targets={**leaving, **back},
        reasons=(f"it takes back rollout {rollout.id}",),
        reverts=rollout.id,
    )


def _earlier(recorded: Recorded, rollout: Rollout, server: HostName) -> CredentialId:
    """The key the server had before the rollout, as long as nothing has put it away."""
    record = recorded.servers[server]
    target = rollout.targets.get(server)
    signing = {
        credential: placement
        for credential, placement in record.placements.items()
        if placement.standing in SIGNING
    }
    old = [credential for credential in signing if credential != target]
    intent = recorded.pending.get(server)
    if intent is not None and not {*old}.isdisjoint(intent.disarms):
        raise RefusedError(
            f"rollout {rollout.id} cannot be taken back: {server} may have put its old key away, and has not "
            "answered since",
            hint="Once it answers: keyrelay rollout revert again, or keyrelay apply to go forward.",
        )
    if old:
        return max(old, key=lambda credential: signing[credential].since)
    switched = target is not None and target in signing
    if switched and not any(server in wave for wave in rollout.waves):
        return CredentialId(str(target))
    away = any(placement.standing is Standing.DISARMED for placement in record.placements.values())
    phase = "the retirement has begun" if away or switched else "it never had another key"
    raise RefusedError(
        f"rollout {rollout.id} cannot be taken back: {server} has no old key within reach, {phase}",
        hint="It can only go forward: keyrelay apply, or keyrelay apply --new-key for another key.",
    )
