"""What an agent's trust bundle has to say now.

The lines follow from the record alone, whatever rollout or playbook brought them about, so bundles of
several playbooks merge and never overwrite each other. A key is added as soon as its server has it staged,
and kept until no message signed with it can still be valid (S1, S7). A server that an issuer vouches for has
one line for all of its keys; one of them that leaked is denied by name, and nothing else about it changes.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import Position, TrustBundle, TrustedKey, Use
from orchestrator.keys.certificate import Certificate, parse_certificate
from orchestrator.keys.delegation import Delegation, Denied
from orchestrator.keys.material import SpkiDigest
from orchestrator.rotation.belief import believed_until, vouched_lines
from orchestrator.rotation.lifecycle import Step
from orchestrator.rotation.recorded import Installed, Recorded, TrustLine
from orchestrator.rotation.standing import View
from orchestrator.rotation.visits import CredentialId

_Content = tuple[frozenset[TrustLine], frozenset[CredentialId]]


def wanted_lines(view: View, agent: HostName, steps: Mapping[HostName, Step]) -> frozenset[TrustLine]:
    """The lines the agent's bundle should have now.

    Args:
        view: the record at one instant.
        agent: any agent, also one that has left.
        steps: where each server stands. While one of the agent's servers is within the wait of S7, nothing is
            dropped for the others either: the agent is visited once, when the last of them is over.
    """
    recorded = view.recorded
    listens = view.listens.get(agent, frozenset())
    installed = {line for bundle in recorded.bundles(agent) for line in bundle.lines}
    waits = any(steps.get(line.server) is Step.WAIT for line in installed)
    wanted: set[TrustLine] = set()
    for server in listens & recorded.servers.keys():
        signed = view.may_sign(server) | view.in_flight(server)
        lines = {view.line(server, c) for c in signed if _may_be_trusted(recorded, c)}
        wanted |= {line for line in lines if line in installed or not _is_hearsay(recorded, line)}
        target = view.target(server)
        if target is not None and view.staged(server) and _may_be_trusted(recorded, target):
            wanted.add(view.line(server, target))
    wanted = {line for line in wanted if line in installed or not _is_over(recorded, line)}
    for line in installed - wanted:
        if line.credential and view.compromised(line.credential):
            continue
        record = recorded.servers.get(line.server)
        if record is None or (line.server not in listens and record.target is not None):
            continue
        if line == view.target_line(line.server):
            wanted.add(line)
            continue
        free_at = view.line_droppable_at(line)
        if waits or free_at is None or free_at > view.now:
            wanted.add(line)
    return frozenset(wanted)


def _may_be_trusted(recorded: Recorded, credential: CredentialId) -> bool:
    """Whether its public key is known, and nobody else may have the private one."""
    known = recorded.credentials[credential]
    return known.public is not None and not known.compromised


def _is_over(recorded: Recorded, line: TrustLine) -> bool:
    """Whether it is a key that was removed once: agents that have it keep it, and no other learns it (S9)."""
    return bool(line.credential and recorded.credentials[line.credential].over)


def _is_hearsay(recorded: Recorded, line: TrustLine) -> bool:
    """Whether only agents say that the server has the key: the word of a host gives no other one a key."""
    return line.credential in recorded.servers[line.server].hearsay


def wanted_denials(view: View, lines: frozenset[TrustLine]) -> frozenset[CredentialId]:
    """The leaked credentials that an agent with these lines would believe, if it did not deny them."""
    if not any(line.issuer for line in lines):
        return frozenset()
    return frozenset(
        credential.id
        for credential in view.leaked
        if not vouched_lines(view.recorded, credential).isdisjoint(lines)
    )


class Press:
    """Makes bundles at one position; agents with equal lines and denials get the very same one.

    Attributes:
        position: what every bundle of this batch carries: the next of the fleet's one sequence.
    """

    def __init__(self, recorded: Recorded) -> None:
        last = recorded.position
        self.position = Position(epoch=last.epoch, sequence=last.sequence + 1)
        self._recorded = recorded
        self._made: dict[_Content, tuple[TrustBundle, Installed]] = {}

    def bundle(
        self, lines: frozenset[TrustLine], denied: frozenset[CredentialId] = frozenset()
    ) -> tuple[TrustBundle, Installed]:
        """The bundle with these lines and denials, the root and issuers; and what the record will say of it.

        Of the fleet's own issuers it carries the one that certifies now, and those that have certified what
        the lines cover. Where no issuer vouches for a server there is nothing to deny.
        """
        if not any(line.issuer for line in lines):
            denied = frozenset()
        if (lines, denied) not in self._made:
            issuers = self._carried(lines)
            bundle = TrustBundle(
                fleet=self._recorded.fleet,
                position=self.position,
                keys=(*self._authorities(issuers), *self._signers(lines)),
                delegations=tuple(
                    Delegation(
                        server=line.server, issuer=issuers[line.issuer], grace=self._grace(line.server)
                    )
                    for line in lines
                    if line.issuer
                ),
                denied=tuple(map(self._denied, denied)),
            )
            installed = Installed(
                position=bundle.position,
                digest=bundle.digest,
                content=bundle.content_digest,
                lines=tuple(sorted(lines)),
                issuers=tuple(sorted(issuers)),
                denied=tuple(sorted(denied)),
            )
            self._made[lines, denied] = (bundle, installed)
        return self._made[lines, denied]

    def _authorities(self, issuers: Mapping[SpkiDigest, Certificate]) -> Iterable[TrustedKey]:
        yield TrustedKey(public=parse_certificate(self._recorded.root).public_key, uses=(Use.CERTIFY,))
        for certificate in issuers.values():
            yield TrustedKey(public=certificate.public_key, uses=(Use.CERTIFY, Use.LOG))

    def _carried(self, lines: frozenset[TrustLine]) -> Mapping[SpkiDigest, Certificate]:
        recorded = self._recorded
        own = {issuer.key: parse_certificate(issuer.certificate) for issuer in recorded.own_issuers()}
        *earlier, now = own
        certified: set[SpkiDigest] = {line.issuer for line in lines if line.issuer}
        if earlier:
            pinned = (
                (line.server, recorded.credentials[line.credential]) for line in lines if line.credential
            )
            certified |= {recorded.issuer_of(c, server) for server, c in pinned if server in c.issuers}
        return {key: own[key] for key in own if key in certified or key == now}

    def _grace(self, server: HostName) -> timedelta:
        return self._recorded.playbooks[self._recorded.servers[server].playbook].certificate.grace

    def _denied(self, credential_id: CredentialId) -> Denied:
        credential = self._recorded.credentials[credential_id]
        if credential.public is None:
            raise ValueError(f"credential {credential_id} is to be denied before it is made")
        return Denied(key=credential.public, expires=believed_until(self._recorded, credential))

    def _signers(self, lines: frozenset[TrustLine]) -> Iterable[TrustedKey]:
        servers: dict[CredentialId, list[str]] = {}
        for line in lines:
            if line.credential:
                servers.setdefault(line.credential, []).append(line.server)
        for credential_id, names in servers.items():
            credential = self._recorded.credentials[credential_id]
            if credential.public is None:
                raise ValueError(f"credential {credential_id} is to be trusted before it is made")
            yield TrustedKey(
                public=credential.public,
                uses=(Use.SIGN,),
                servers=tuple(sorted(names)),
                expires=credential.expires,
            )
