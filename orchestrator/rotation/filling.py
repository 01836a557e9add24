"""What the record says of hosts' stores: what visits put there, and what surveys found."""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from orchestrator.inventory.model import HostName
from orchestrator.rotation.observed import HeldStores, HostSurvey, StoreState
from orchestrator.rotation.recorded import Filled, Recorded
from orchestrator.rotation.visits import CredentialId


def server_filled(recorded: Recorded, server: HostName, filled: Filled | None) -> Recorded:
    """The same fleet, with this in a server's stores; None: nothing is."""
    return replace(recorded, server_stores=_changed(recorded.server_stores, server, filled))


def agent_filled(recorded: Recorded, agent: HostName, filled: Filled | None) -> Recorded:
    """The same fleet, with this in an agent's stores; None: nothing is."""
    return replace(recorded, agent_stores=_changed(recorded.agent_stores, agent, filled))


def found(recorded: Recorded, host: HostName, survey: HostSurvey) -> Recorded:
    """The same fleet, with what a survey found in the stores of a host, in the roles that it has or had."""
    if host in recorded.servers or host in recorded.server_stores:
        recorded = server_filled(recorded, host, _found(recorded, host, survey.server_stores, survey))
    if host in recorded.agents or host in recorded.agent_stores:
        recorded = agent_filled(recorded, host, _found(recorded, host, survey.agent_stores, survey))
    return recorded


def faults_of(
    recorded: Recorded, host: HostName, held: HeldStores, survey: HostSurvey
) -> Iterator[tuple[str, str]]:
    """What is wrong in a host's stores: each place, and what is there instead.

    A wrong owner or mode, which ``survey.problems`` tells of, comes without words.
    """
    known = recorded.credentials.get(CredentialId(held.credential or ""))
    key = known.public.spki_digest if known is not None and known.public is not None else None
    pem = known.certificates.get(host) if known is not None else None
    certificate = der_digest(pem) if pem is not None else None
    wrong = {problem.path for problem in survey.problems}
    for store in held.places:
        if store.state is not StoreState.INTACT:
            yield store.place, str(store.state)
        elif store.keys and set(store.keys) != {key}:
            yield store.place, "another key"
        elif store.keys and store.certificates and certificate not in store.certificates:
            yield store.place, "another certificate"
        elif store.place.split(" ")[0] in wrong:
            yield store.place, ""


def der_digest(pem: str) -> str:
    """SHA-256 (hex) of the DER of a certificate in PEM."""
    body = pem.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END CERTIFICATE-----")[0]
    return hashlib.sha256(base64.b64decode("".join(body.split()))).hexdigest()


def _found(recorded: Recorded, host: HostName, held: HeldStores | None, survey: HostSurvey) -> Filled | None:
    if held is None:
        return None
    return Filled(
        manifest=held.digest,
        credential=CredentialId(held.credential or ""),
        intact=bool(held.digest) and not any(faults_of(recorded, host, held, survey)),
    )


def _changed(
    stores: Mapping[HostName, Filled], host: HostName, filled: Filled | None
) -> Mapping[HostName, Filled]:
    if filled is None and host not in stores:
        return stores
    others = {name: known for name, known in stores.items() if name != host}
    return MappingProxyType({**others, host: filled} if filled is not None else others)
