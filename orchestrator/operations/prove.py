"""prove: every edge at once, directly: a fresh nonce signed on the server, verified on the agent.

Each server signs once with what it uses now, by its running service where its playbook has a prove_command;
a service that signs with another key than the one in use proves nothing, whoever believes it. Each agent
checks all its servers, a hundred signatures a visit. Nothing on a host changes, and nothing is written into
the ledger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from orchestrator.errors import UsageError
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.ports import Entropy, Fleet, Ledger, ProgressSink
from orchestrator.rotation import reports as rp
from orchestrator.rotation import visits as vs
from orchestrator.rotation.errands import prover
from orchestrator.rotation.lookup import name_of
from orchestrator.rotation.proofs import fault_of_signature, with_names
from orchestrator.rotation.recorded import Credential, Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Whether an agent, now, believes what a server signs, now.

    Attributes:
        holds: proven.
        asked: False where one of the two could not be reached, so that nothing is known.
        detail: the verdict, or why there is none.
    """

    server: HostName
    agent: HostName
    holds: bool
    asked: bool
    detail: str


def prove(
    endpoints: Mapping[HostName, Endpoint],
    *,
    ledger: Ledger,
    fleet: Fleet,
    entropy: Entropy,
    progress: ProgressSink,
) -> tuple[Edge, ...]:
    """Prove every edge of every playbook; sorted by server, then agent.

    Args:
        endpoints: how the inventory says hosts are reached; the ledger's word for hosts it does not name.
        ledger: is only read.
        fleet: the hosts.
        entropy: for nonces.
        progress: who watches.

    Raises:
        UsageError: no playbook was ever applied.
    """
    recorded = ledger.read()
    listens = recorded.listens()
    if not listens:
        raise UsageError(
            "nothing was applied yet, so there is nothing to prove",
            hint="keyrelay plan PLAYBOOK shows what would be done, keyrelay apply PLAYBOOK does it",
        )
    reach = {**recorded.endpoints, **endpoints}
    servers = sorted({server for heard in listens.values() for server in heard})
    claims, unsigned = _signatures(recorded, [reach[s] for s in servers], fleet, entropy, progress)
    edges: list[Edge] = []
    todo: dict[HostName, list[vs.Claim]] = {}
    for agent, heard in sorted(listens.items()):
        for server in sorted(heard):
            if server in claims:
                todo.setdefault(agent, []).append(claims[server])
            else:
                asked, reason = unsigned[server]
                edges.append(Edge(server=server, agent=agent, holds=False, asked=asked, detail=reason))
    while todo:
        batch = {agent: waiting[: vs.PROOFS_A_VISIT] for agent, waiting in todo.items()}
        todo = {a: rest for a, waiting in todo.items() if (rest := waiting[vs.PROOFS_A_VISIT :])}
        edges.extend(_verdicts(recorded, batch, reach, fleet, progress))
    return tuple(sorted(edges, key=lambda edge: (edge.server, edge.agent)))


def _signatures(
    recorded: Recorded,
    endpoints: Sequence[Endpoint],
    fleet: Fleet,
    entropy: Entropy,
    progress: ProgressSink,
) -> tuple[dict[HostName, vs.Claim], dict[HostName, tuple[bool, str]]]:
    """A claim of each server that signed; for the others, whether they were reached, and why not signed."""
    challenges = {
        e.host: vs.Challenge(fleet=recorded.fleet, server=e.host, nonce=entropy(32).hex()) for e in endpoints
    }
    visits = [
        vs.Visit(
            endpoint=endpoint,
            orders=(vs.Sign(challenge=challenges[endpoint.host], prove=prover(recorded, endpoint.host)),),
        )
        for endpoint in endpoints
    ]
    claims: dict[HostName, vs.Claim] = {}
    unsigned: dict[HostName, tuple[bool, str]] = {}
    progress.visiting("sign", challenges.keys())
    for outcome in fleet.run(visits):
        progress.visited(outcome)
        server = outcome.host
        if isinstance(outcome, rp.Unreachable | rp.Failed):
            unsigned[server] = (False, f"{server}: {outcome.reason}")
            continue
        report = next((r for r in outcome.reports if isinstance(r, rp.Signed)), None)
        if report is None:
            unsigned[server] = (True, f"{server}: {with_names(recorded, _reason(outcome))}")
            continue
        known = recorded.credentials.get(report.credential)
        fault = fault_of_signature(recorded, report.credential, challenges[server], report.signature)
        if known is None or known.public is None or fault:
            unsigned[server] = (True, f"{server}: {fault}")
            continue
        claims[server] = vs.Claim(
            challenge=challenges[server],
            key=known.public.spki_digest,
            signature=report.signature,
            voucher=_voucher(known, server, recorded),
        )
    return claims, unsigned


def _voucher(known: Credential | None, server: HostName, recorded: Recorded) -> vs.Voucher | None:
    """The certificate by which agents are to believe a key that they do not know themselves."""
    if known is None or not known.delegated or server not in known.certificates:
        return None
    issuer = recorded.issuer_of(known, server)
    return vs.Voucher(certificate_pem=known.certificates[server], issuer=issuer)


def _verdicts(
    recorded: Recorded,
    batch: Mapping[HostName, Sequence[vs.Claim]],
    reach: Mapping[HostName, Endpoint],
    fleet: Fleet,
    progress: ProgressSink,
) -> list[Edge]:
    visits = [
        vs.Visit(endpoint=reach[agent], orders=(vs.Check(claims=tuple(claims)),))
        for agent, claims in batch.items()
    ]
    edges: list[Edge] = []
    progress.visiting("check", batch.keys())
    for outcome in fleet.run(visits):
        progress.visited(outcome)
        agent, claims = outcome.host, batch[outcome.host]
        report = None
        if not isinstance(outcome, rp.Unreachable):
            report = next((r for r in outcome.reports if isinstance(r, rp.Checked)), None)
        if report is not None and len(report.verdicts) == len(claims):
            edges.extend(
                Edge(
                    server=claim.challenge.server,
                    agent=agent,
                    holds=verdict is rp.Verdict.VALID,
                    asked=True,
                    detail=f"{verdict}: {_told(recorded, agent, claim.challenge.server)}"
                    if verdict is rp.Verdict.UNTRUSTED
                    else verdict,
                )
                for claim, verdict in zip(claims, report.verdicts, strict=True)
            )
            continue
        why = f"{agent}: {_reason(outcome)}"
        asked = isinstance(outcome, rp.Refused)
        edges.extend(
            Edge(server=claim.challenge.server, agent=agent, holds=False, asked=asked, detail=why)
            for claim in claims
        )
    return edges


def _told(recorded: Recorded, agent: HostName, server: HostName) -> str:
    """What the ledger tells of an agent that does not believe its server."""
    lines = {line for bundle in recorded.bundles(agent) for line in bundle.lines if line.server == server}
    trusts = sorted(
        f"issuer {line.issuer[:12]}" if line.issuer else name_of(recorded.credentials[line.credential])
        for line in lines
    )
    told = f"by the ledger it trusts {' and '.join(trusts) or 'no key'} for {server}"
    record = recorded.servers.get(server)
    waived = record is not None and agent in recorded.waived(record.playbook)
    return f"{told}; nobody waits for it, it is waived" if waived else told


def _reason(outcome: rp.Outcome) -> str:
    match outcome:
        case rp.Changed() | rp.Unchanged():
            return "it did not answer what it was asked"
        case rp.Refused() | rp.Unreachable() | rp.Failed():
            return outcome.reason
        case _:
            assert_never(outcome)
