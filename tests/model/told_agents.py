"""What is told of one agent: as a whole, and by server, so that servers can trade places."""

from collections.abc import Sequence
from typing import Any

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import TrustBundle
from orchestrator.rotation.recorded import AgentRecord, Installed, Proof, ServerRecord, Standing, TrustLine
from tests.fake_state import HostState
from tests.model.naming import edges_of
from tests.model.view import DENIED, NONE, Told, View, in_order, of_servers


def tell_agent(
    view: View, agent: HostName, servers: Sequence[HostName], gone: frozenset[HostName]
) -> tuple[int, tuple[Any, ...]]:
    """The number of what is known of an agent, and by server the number of what it knows of that.

    Args:
        gone: agents that listen to nobody, and never will.
    """
    recorded, names = view.recorded, view.names
    record, intent = recorded.agents.get(agent), recorded.pending.get(agent)
    host = view.state.hosts[agent]
    there, marks = host.bundle, view.marks(agent)
    if host.untold:
        marks = (*marks, "untold")
    if stones := view.stones(view.state.hosts[agent]):
        marks = (*marks, stones)
    if agent in gone and intent is None and not marks and not (there and edges_of(there)):
        installed = record.installed if record is not None else None
        if installed is None or not installed.lines:
            return NONE, ((NONE, ()),) * len(servers)
    coming = intent.bundle if intent is not None else None
    ends = recorded.credentials if view.ahead.nears else None
    parts = (record, intent, there, host.loaded, names, recorded.issuers, ends)
    key = (agent, *map(id, parts), marks)
    known = view.pieces.known.get(key)
    if known is None:
        whole = (*_whole(view, record, coming, there), intent is not None, marks)
        installed = record.installed if record is not None else None
        told = zip(
            of_servers(_lines(view, installed), servers),
            of_servers(_lines(view, coming), servers),
            of_servers(view.edges(there), servers),
            of_servers(_earlier(view, record), servers),
            of_servers(_loaded(view, host), servers),
            strict=True,
        )
        numbers = (view.pieces.number(whole), tuple([view.pieces.number(piece) for piece in told]))
        known = view.pieces.known[key] = (parts, numbers)
    number, pieces = known[1]
    proofs = _proofs(view, record, there, uncertain=coming is not None)
    if not proofs or agent in gone:
        return number, tuple([(piece, ()) for piece in pieces])
    return number, tuple(
        [(piece, in_order(proofs.get(server, ()))) for piece, server in zip(pieces, servers, strict=True)]
    )


def _earlier(view: View, record: AgentRecord | None) -> dict[HostName, Told]:
    """By server what the ledger says of the bundles that the agent's programs may use."""
    told: dict[HostName, Told] = {}
    for bundle in record.earlier if record is not None else ():
        for server, lines in _lines(view, bundle).items():
            told[server] = (*told.get(server, ()), lines)
    return told


def _loaded(view: View, host: HostState) -> dict[HostName, Told]:
    """By server what those bundles say."""
    told: dict[HostName, Told] = {}
    for number, bundle in enumerate(host.loaded):
        for server, edges in view.edges(bundle).items():
            told[server] = (*told.get(server, ()), (number, edges))
    return told


def _whole(
    view: View, record: AgentRecord | None, coming: Installed | None, there: TrustBundle | None
) -> Told:
    installed = record.installed if record is not None else None
    several = len(view.recorded.issuers) > 1
    carried = [
        in_order(map(view.issuer, view.recorded.carried_issuers(bundle)))
        for bundle in (installed, coming)
        if several and bundle is not None
    ]
    return (
        record is not None and (1 if record.given_up else 2, record.untold),
        installed is not None and (1 if installed.content else 2),
        coming is None,
        there is not None,
        _compared(there, installed),
        _compared(there, coming),
        *carried,
    )


def _lines(view: View, bundle: Installed | None) -> dict[HostName, Told]:
    """By server what the ledger says of a bundle."""
    told: dict[HostName, list[int]] = {}
    if bundle is None:
        return {}
    for line in bundle.lines:
        told.setdefault(line.server, []).append(_line(view, line))
    for credential in bundle.denied:
        owner = view.names.owner[credential]
        told.setdefault(owner, []).append(DENIED + view.names.number[credential])
    return {server: in_order(names) for server, names in told.items()}


def _line(view: View, line: TrustLine) -> int:
    if line.issuer:
        return view.issuer(line.issuer)
    return view.names.at(line.server, line.credential) if line.credential in view.names.number else NONE


def _proofs(
    view: View, record: AgentRecord | None, there: TrustBundle | None, *, uncertain: bool
) -> dict[HostName, list[Told]]:
    """What the agent has proven, as far as that can ever count again."""
    told: dict[HostName, list[Told]] = {}
    if record is None or not record.proven:
        return told
    if uncertain and not view.ahead.puts_back and _compared(there, record.installed):
        return told
    for line, proof in record.proven.items():
        server = view.recorded.servers.get(line.server)
        if server is None:
            continue
        if line.credential and line.credential != server.target and not view.ahead.goes_back:
            continue
        age = view.recorded.playbooks[server.playbook].rollout.proof_age
        young = proof.at is None or proof.at + age > view.now
        told.setdefault(line.server, []).append((_line(view, line), young, *_confirms(view, server, proof)))
    return told


def _confirms(view: View, server: ServerRecord, proof: Proof) -> tuple[bool, bool]:
    """Whether it is of what the server last signed, where that is asked; and from before the rollout."""
    rollout = view.running[server.playbook]
    if rollout is None or not rollout.waves:
        return False, False
    credential = server.target if proof.line.issuer else proof.line.credential
    placement = server.placements.get(credential) if credential is not None else None
    lasts = placement is not None and placement.standing is Standing.ACTIVE and credential == server.target
    fresh = (
        placement is not None
        and (lasts or view.ahead.befalls)  # a server that switches is answered with another claim
        and placement.claim is not None
        and placement.claim.challenge.nonce == proof.nonce
    )
    before = bool(proof.line.issuer) and proof.at is not None and proof.at <= rollout.started
    return fresh, before


def _compared(there: TrustBundle | None, known: Installed | None) -> int:
    """How a bundle on a host stands to one in the ledger: 0 the same, 1 later, 2 earlier, 3 at odds."""
    if there is None or known is None:
        return 4
    if there.position == known.position:
        return 0 if there.digest == known.digest else 3
    return 1 if there.position > known.position else 2
