"""Taking a rollout back: every server to the key it had, as a rollout of its own (L5).

It is possible until an old key is put away, or may have been, by a visit whose end is not known. From then on
the way back is the way forward: a new rollout to another key.
"""

from collections.abc import Mapping

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.keys.material import Random
from orchestrator.policy.desired import Desired
from orchestrator.rotation.events import RolloutStarted
from orchestrator.rotation.lookup import name_of
from orchestrator.rotation.moving import refuse_to_undo
from orchestrator.rotation.recorded import SIGNING, Credential, Recorded, Rollout, RolloutId, Standing
from orchestrator.rotation.visits import CredentialId


def plan_revert(recorded: Recorded, rollout: Rollout, *, random: Random) -> RolloutStarted:
    """The rollout that takes ``rollout`` back.

    Servers and agents that came with it leave again, and policies go back with the keys.

    Raises:
        RefusedError: it has ended, it was the first, it takes back another itself, a server came from or went
            to another playbook with it, an old key is put away, or was ended by a person.
    """
    before, back = _way_back(recorded, rollout)
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


def may_be_taken_back(recorded: Recorded, rollout: Rollout) -> bool:
    """Whether ``plan_revert`` would find a way back for every server."""
    try:
        _way_back(recorded, rollout)
    except RefusedError:
        return False
    return True


def left_leaked(recorded: Recorded, server: HostName) -> Credential | None:
    """The leaked key that a server has left for the one it uses; None: the key it had before did not leak."""
    record = recorded.servers[server]
    placement = record.placements.get(record.target) if record.target is not None else None
    if record.target is None or placement is None or placement.standing is not Standing.ACTIVE:
        return None
    target = recorded.credentials[record.target]
    earlier = [
        credential
        for credential in recorded.credentials.values()
        if server in credential.certificates and credential != target and credential.created <= target.created
    ]
    return earlier[-1] if earlier and earlier[-1].compromised else None


def _way_back(recorded: Recorded, rollout: Rollout) -> tuple[Desired, Mapping[HostName, CredentialId]]:
    """What the playbook asked for before, and the key that each of its servers had."""
    if rollout.ended is not None:
        raise RefusedError(
            f"rollout {rollout.id} has ended, so its old keys are gone",
            hint="To go to other keys, change the playbook, or: keyrelay apply --new-key",
        )
    if rollout.reverts is not None:
        raise RefusedError(
            f"rollout {rollout.id} takes back rollout {rollout.reverts} already",
            hint=f"To go {'on' if rollout.paused else 'forward again'}: {_onward(rollout)}",
        )
    if rollout.before is None:
        raise RefusedError(
            f"rollout {rollout.id} was the first of playbook {rollout.playbook!r}: nothing was before it",
            hint="To take hosts out, take them out of the playbook and apply it.",
        )
    refuse_to_undo(recorded, rollout, rollout.before.servers())
    back = {server: _earlier(recorded, rollout, server) for server in rollout.before.servers()}
    _refuse_foreign_keys(recorded, rollout, back)
    credentials = (recorded.credentials[credential] for credential in back.values())
    ended = [credential for credential in credentials if credential.ended or credential.over]
    if ended:
        raise RefusedError(
            f"rollout {rollout.id} cannot be taken back: a key it came from is {ended[0].ended or 'over'}",
            hint=f"It can only go forward: {_onward(rollout)}",
        )
    return rollout.before, back


def _refuse_foreign_keys(recorded: Recorded, rollout: Rollout, back: Mapping[HostName, CredentialId]) -> None:
    """No server goes back to a key of the playbook that it came from: others may have that on."""
    for server, credential in back.items():
        playbook = recorded.credentials[credential].playbook
        if playbook != rollout.playbook:
            raise RefusedError(
                f"rollout {rollout.id} cannot be taken back: {server} has yet to leave its key of playbook "
                f"{playbook!r}, from which it moves",
                hint=f"It can only go forward: {_onward(rollout)}",
            )


def _onward(rollout: Rollout) -> str:
    """The command that goes on with a rollout; apply leaves a paused one as it is."""
    return "keyrelay rollout resume" if rollout.paused else "keyrelay apply"


def _earlier(recorded: Recorded, rollout: Rollout, server: HostName) -> CredentialId:
    """The key the server had before the rollout, as long as nothing has put it away."""
    record = recorded.servers.get(server)
    if record is None:
        raise RefusedError(
            f"rollout {rollout.id} cannot be taken back: {server} has left, and has no old key within reach",
            hint=f"It can only go forward: {_onward(rollout)}",
        )
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
            hint=f"Once it answers: keyrelay rollout revert again, or {_onward(rollout)} to go forward.",
        )
    if old:
        return max(old, key=lambda credential: signing[credential].since)
    switched = target is not None and target in signing
    if switched and not any(server in wave for wave in rollout.waves):
        return CredentialId(str(target))
    leaked = left_leaked(recorded, server)
    if leaked is not None:
        raise RefusedError(
            f"rollout {rollout.id} cannot be taken back: {server} has left {name_of(leaked)}, which leaked",
            hint=f"Nothing goes back to a leaked key. It can only go forward: {_onward(rollout)}",
        )
    away = any(placement.standing is Standing.DISARMED for placement in record.placements.values())
    phase = "the retirement has begun" if away or switched else "it never had another key"
    another = "" if rollout.paused else ", or keyrelay apply --new-key for another key"
    raise RefusedError(
        f"rollout {rollout.id} cannot be taken back: {server} has no old key within reach, {phase}",
        hint=f"It can only go forward: {_onward(rollout)}{another}.",
    )
