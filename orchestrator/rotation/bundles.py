"""What an agent's trust bundle has to say now.

The lines follow from the record alone, whatever rollout or playbook brought them about, so bundles of
several playbooks merge and never overwrite each other. A key is added as soon as its server has it staged,
and kept until no message signed with it can still be valid (S1, S7).
"""

from collections.abc import Iterable, Mapping

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import Position, TrustBundle, TrustedKey, Use
from orchestrator.keys.certificate import parse_certificate
from orchestrator.rotation.lifecycle import Step
from orchestrator.rotation.recorded import Installed, Recorded, TrustLine
from orchestrator.rotation.standing import View
from orchestrator.rotation.visits import CredentialId


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
        signed = recorded.may_sign(server) | view.in_flight(server)
        wanted |= {TrustLine(server=server, credential=c) for c in signed if _may_be_trusted(recorded, c)}
        target = view.target(server)
        if target is not None and view.staged(server) and _may_be_trusted(recorded, target):
            wanted.add(TrustLine(server=server, credential=target))
    for line in installed - wanted:
        if view.compromised(line.credential):
            continue
        record = recorded.servers.get(line.server)
        if record is None or (line.server not in listens and record.target is not None):
            continue
        if line.credential == record.target:
            wanted.add(line)
            continue
        free_at = view.droppable_at(line.server, line.credential)
        if waits or free_at is None or free_at > view.now:
            wanted.add(line)
    return frozenset(wanted)


def _may_be_trusted(recorded: Recorded, credential: CredentialId) -> bool:
    """Whether its public key is known, and nobody else may have the private one."""
    known = recorded.credentials[credential]
    return known.public is not None and not known.compromised


class Press:
    """Makes bundles at one position; agents with equal lines get the very same one.

    Attributes:
        position: what every bundle of this batch carries: the next of the fleet's one sequence.
    """

    def __init__(self, recorded: Recorded) -> None:
        last = recorded.position
        self.position = Position(epoch=last.epoch, sequence=last.sequence + 1)
        self._recorded = recorded
        self._made: dict[frozenset[TrustLine], tuple[TrustBundle, Installed]] = {}

    def bundle(self, lines: frozenset[TrustLine]) -> tuple[TrustBundle, Installed]:
        """The bundle with these lines, the root and the issuer, and what the record will say of it."""
        if lines not in self._made:
            bundle = TrustBundle(
                fleet=self._recorded.fleet,
                position=self.position,
                keys=(*self._authorities(), *self._signers(lines)),
            )
            installed = Installed(
                position=bundle.position,
                digest=bundle.digest,
                content=bundle.content_digest,
                lines=tuple(sorted(lines)),
            )
            self._made[lines] = (bundle, installed)
        return self._made[lines]

    def _authorities(self) -> Iterable[TrustedKey]:
        root = parse_certificate(self._recorded.root).public_key
        issuer = parse_certificate(self._recorded.issuer).public_key
        yield TrustedKey(public=root, uses=(Use.CERTIFY,))
        yield TrustedKey(public=issuer, uses=(Use.CERTIFY, Use.LOG))

    def _signers(self, lines: frozenset[TrustLine]) -> Iterable[TrustedKey]:
        servers: dict[CredentialId, list[str]] = {}
        for line in lines:
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
