"""What hosts would tell if they held exactly what a ledger says: to compare an older ledger with it."""

from types import MappingProxyType

from orchestrator.inventory.model import HostName
from orchestrator.keys.certificate import parse_certificate
from orchestrator.rotation.hearsay import ended_in
from orchestrator.rotation.observed import (
    HeldBundle,
    HeldCredential,
    HeldDelegation,
    HeldEdge,
    HostSurvey,
    Whole,
)
from orchestrator.rotation.recorded import Recorded, Standing
from orchestrator.rotation.sight import Sight


def supposed_sight(recorded: Recorded) -> Sight:
    """The fleet as a ledger has it."""
    hosts = sorted({*recorded.servers, *recorded.agents})
    return Sight(
        surveys={host: _survey(recorded, host) for host in hosts},
        wholes={host: _whole(recorded, host) for host in hosts},
        endpoints=recorded.endpoints,
        failures={},
        ended=ended_in(recorded),
    )


def _survey(recorded: Recorded, host: HostName) -> HostSurvey:
    server, agent = recorded.servers.get(host), recorded.agents.get(host)
    placements = server.placements if server is not None else {}
    current = next((c for c, p in placements.items() if p.standing is Standing.ACTIVE), None)
    held: list[HeldCredential] = []
    for credential, placement in sorted(placements.items()):
        known = recorded.credentials[credential]
        pem = known.certificates.get(host)
        held.append(
            HeldCredential(
                name=credential,
                disarmed=placement.standing is Standing.DISARMED,
                key=known.public.spki_digest if known.public is not None else None,
                certificate_key=parse_certificate(pem).public_key.spki_digest if pem is not None else None,
                certificate_digest=known.certificate_digest(host),
                not_after=known.not_after,
            )
        )
    installed = agent.installed if agent is not None else None
    lines = installed.lines if installed is not None else ()
    edges = [
        HeldEdge(server=line.server, key=public.spki_digest, expires=None)
        for line in lines
        if line.credential and (public := recorded.credentials[line.credential].public) is not None
    ]
    granted = [
        HeldDelegation(server=line.server, issuer=line.issuer, grace=0) for line in lines if line.issuer
    ]
    denied = (recorded.credentials[c].public for c in (installed.denied if installed is not None else ()))
    return HostSurvey(
        user="",
        openssl="",
        fence=(recorded.generation, recorded.version),
        current=current,
        credentials=tuple(held),
        bundle=None
        if installed is None
        else HeldBundle(
            position=installed.position,
            digest=installed.digest,
            edges=tuple(sorted(edges)),
            keys=tuple(sorted({edge.key for edge in edges})),
            delegations=tuple(granted),
            denied=tuple(public.spki_digest for public in denied if public is not None),
            issuers=tuple(sorted({line.issuer for line in granted})),
        ),
        problems=(),
    )


def _whole(recorded: Recorded, host: HostName) -> Whole:
    publics = [c.public for c in recorded.credentials.values() if c.public is not None]
    return Whole(
        keys=MappingProxyType({public.spki_digest: public for public in publics}),
        certificates={
            c.id: (c.certificates[host], c.chains[host])
            for c in recorded.credentials.values()
            if host in c.certificates
        },
    )
