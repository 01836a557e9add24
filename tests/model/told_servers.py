"""What is told of one server, and of the keys that are its alone."""

from collections.abc import Iterator

from orchestrator.inventory.model import HostName
from orchestrator.rotation.recorded import SIGNING, Placement, ServerRecord, Standing
from orchestrator.rotation.visits import CredentialId
from tests.model.view import IN_SERVICE, NONE, Told, View, in_order

_STANDINGS = {standing: number for number, standing in enumerate(Standing)}


def tell_server(view: View, server: HostName) -> int:
    """The number of all that is known of a server."""
    recorded, state, names = view.recorded, view.state, view.names
    record, intent = recorded.servers.get(server), recorded.pending.get(server)
    there = state.hosts[server]
    strange = tuple([c for s, c in state.strange if s == server])
    marks = view.marks(server)
    rollouts = tuple(view.running.values())
    parts = (record, intent, there, names, recorded.credentials, state.vault, state.leaked, *rollouts)
    more = (strange, marks, view.ahead, view.order.playbooks, view.now, state.refused_at)
    key = (server, *map(id, parts), *more)
    known = view.pieces.known.get(key)
    if known is not None:
        return int(known[1])
    pending: Told = ()
    if intent is not None:
        activates = NONE if intent.activates is None else names.at(server, intent.activates)
        placed = record.placements if record is not None else {}
        pending = (in_order(names.at(server, c) for c in intent.stages if c not in placed), activates)
    mine = names.of.get(server, ())
    told = (
        _record(view, server, record) if record is not None else (),
        pending,
        view.host(server, there),
        view.stones(there),
        in_order(names.at(server, c) for c in strange if c in names.number),
        tuple([view.credential(c) for c in mine]),
        tuple([_certified(view, server, c.id) for c in (*mine, *names.of_several)]),
        tuple(_targets(view, server)),
        marks,
    )
    number = view.pieces.number(told)
    view.pieces.known[key] = (parts, number)
    return number


def _certified(view: View, server: HostName, credential: CredentialId) -> int:
    """By whom a key is certified for the server; whether that is to be done anew.

    A key that is over is never used again, so its certificate matters no more; but an agent may still believe
    it for its issuer's sake.
    """
    c = view.recorded.credentials.get(credential)
    if c is None or server not in c.certificates or (c.state not in IN_SERVICE and not c.delegated):
        return NONE
    issuer = view.issuer(view.recorded.issuer_of(c, server)) if c.delegated else 0
    return issuer * 2 + (server in c.uncertified)


def _record(view: View, server: HostName, record: ServerRecord) -> Told:
    at, recorded, ahead, target = view.names.at, view.recorded, view.ahead, record.target
    ages = sorted({p.since for p in record.placements.values() if p.standing in SIGNING})
    soak = recorded.playbooks[record.playbook].rollout.soak
    soaking = _soaks(view, server, record)
    return (
        view.playbook(record.playbook),
        NONE if target is None else at(server, target),
        in_order(
            (
                at(server, c),
                _standing(view, p, target=c == target),
                p.claim is not None and (ahead.goes_back or c == target),
                ages.index(p.since) if ahead.goes_back and p.standing in SIGNING else 0,
                c in soaking and p.standing is Standing.ACTIVE and p.since + soak <= view.now,
                ahead.nears and p.certificate != recorded.credentials[c].certificate_digest(server),
                p.hook_due,
            )
            for c, p in record.placements.items()
        ),
        in_order(
            at(server, c)
            for c, then in record.cleared.items()
            if then + recorded.credentials[c].in_flight > view.now
        ),
        in_order(at(server, c) for c in record.missing),
        record.set_back is not None,
        record.given_up != "",
    )


def _soaks(view: View, server: HostName, record: ServerRecord) -> frozenset[CredentialId]:
    """The keys for whose soak somebody waits, or may come to wait.

    A server retires others for the key that it is to have, once that has soaked. Where nothing befalls it and
    no rollout is taken back, one that it is not to have does not become that again, and one that is alone
    there is switched to anew, and soaks anew, before others are retired for it.
    """
    recorded, ahead, state = view.recorded, view.ahead, view.state
    ever = ahead.goes_back or ahead.puts_back or view.running[record.playbook] is not None
    if not ever:
        return frozenset()
    there = state.hosts[server]
    known = {*there.credentials, *there.disarmed} == record.placements.keys() and not record.missing
    several = recorded.playbooks[record.playbook].servers() != (server,)
    unsure = ahead.befalls or server in recorded.pending or server in state.meddled
    if ahead.goes_back or unsure or several or not known:
        return frozenset(record.placements)
    return frozenset(record.placements if len(record.placements) > 1 else ()) & {record.target}


def _standing(view: View, placement: Placement, *, target: bool) -> int:
    """Whether a target that is not in use ever was matters only to what it may have to lose."""
    standby = placement.standing is Standing.STANDBY
    if standby and target and placement.claim is not None and not view.ahead.turns:
        return _STANDINGS[Standing.STAGED]
    return _STANDINGS[placement.standing]


def _targets(view: View, server: HostName) -> Iterator[Told]:
    """What running rollouts have in mind for the server."""
    for playbook, rollout in view.running.items():
        if rollout is not None and server in rollout.targets:
            target = rollout.targets[server]
            wave = next((n for n, wave in enumerate(rollout.waves) if server in wave), NONE)
            known = target is not None and target in view.names.number
            name = view.names.at(server, str(target)) if known else NONE - (target is not None)
            yield (view.playbook(playbook), name, wave)
