"""No operation: what an issuer is asked for when a key is certified, and what its answer has to be.

It is asked for one name alone, the one that the inventory gives the server, whatever the request says. Where
agents are to believe the key by its certificate, the answer is judged as they will judge it, so that what no
agent would believe never reaches a server.
"""

from datetime import datetime, timedelta

from orchestrator.errors import IssuerError
from orchestrator.inventory.model import HostName
from orchestrator.keys.certificate import Certificate, parse_certificate, parse_chain
from orchestrator.keys.delegation import fault_of
from orchestrator.ports import CertificateOrder, Ports
from orchestrator.rotation.events import Certified
from orchestrator.rotation.recorded import FOREIGN, Recorded
from orchestrator.rotation.visits import CredentialId


def issued(
    ports: Ports, recorded: Recorded, credential: CredentialId, server: HostName, request_pem: str
) -> Certified:
    """Have the key of a request certified for exactly the name the inventory gives the server.

    Raises:
        IssuerError: the issuer refuses, or no agent would believe what it gave.
        KeyMaterialError: the request is wrong.
    """
    known = recorded.credentials[credential]
    desired = recorded.playbooks[known.playbook]
    # Agents that believe a key by its certificate know the issuer that it had until now.
    again = known.delegated and server in known.issuers
    order = CertificateOrder(
        names=(server,),
        request_pem=request_pem,
        not_after=known.ends,
        backdate=2 * desired.messages.clock_skew,
        issuer=desired.issuer,
        by=recorded.issuer_of(known, server) if again else None,
    )
    now = ports.clock.now()
    answer = ports.issuer.issue(order, now=now)
    issuer = FOREIGN
    if desired.issuer is None:
        own = parse_chain(answer.chain_pem)[0]
        issuer = own.public_key.spki_digest
        if known.delegated:
            _refuse_unbelievable(parse_certificate(answer.certificate_pem), own, server, now)
    return Certified(
        credential=credential,
        server=server,
        certificate_pem=answer.certificate_pem,
        chain_pem=answer.chain_pem,
        issuer=issuer,
    )


def _refuse_unbelievable(
    certificate: Certificate, issuer: Certificate, server: HostName, now: datetime
) -> None:
    """Refuse a certificate that no agent would believe.

    Raises:
        IssuerError: it is not this issuer's word for this server alone.
    """
    fault = fault_of(
        certificate, server=server, issuer=issuer, grace=timedelta(0), denied=frozenset(), at=now
    )
    if fault is not None:
        raise IssuerError(
            f"the issuer's certificate for {server} would not be believed: it is {fault}",
            hint="With policy delegated the issuer certifies for one name alone, and nothing stands between.",
        )
