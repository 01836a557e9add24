"""What was seen of a fleet that a ledger has not met since it was restored (S9)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from orchestrator.errors import KeyMaterialError
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.certificate import parse_certificate, parse_chain
from orchestrator.keys.delegation import fault_of
from orchestrator.keys.material import SpkiDigest
from orchestrator.rotation.observed import HeldCredential, HostSurvey, Whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A word of a key that has ended.

    Attributes:
        leaked: whether it is to be treated as leaked; otherwise it is only never to be used anew.
        why: who says so, and what.
        by: the host that says so; None: a later ledger does.
    """

    leaked: bool
    why: str
    by: HostName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What was seen of the fleet.

    Attributes:
        surveys: of the hosts that answered.
        wholes: what they told beyond that.
        endpoints: how every host that was asked is reached.
        failures: the hosts that did not answer, with the reason.
        ended: keys that a later ledger calls ended, where there is one to ask, with its words.
    """

    surveys: Mapping[HostName, HostSurvey]
    wholes: Mapping[HostName, Whole]
    endpoints: Mapping[HostName, Endpoint]
    failures: Mapping[HostName, str]
    ended: Mapping[SpkiDigest, Ending]

    def trusted(self) -> Iterator[tuple[HostName, HostName, SpkiDigest]]:
        """Every agent, a server it trusts, and a key that it, or a program on it, trusts it with."""
        yield from self.pinned()
        for agent, server, key, _ in self.vouched():
            yield agent, server, key

    def pinned(self) -> Iterator[tuple[HostName, HostName, SpkiDigest]]:
        """The same for the keys that agents know themselves; nobody but the agent says so."""
        for agent, survey in sorted(self.surveys.items()):
            for bundle in survey.trusted():
                for edge in bundle.edges:
                    yield agent, edge.server, edge.key

    def vouched(self) -> Iterator[tuple[HostName, HostName, SpkiDigest, SpkiDigest]]:
        """Every agent, a server that it believes by a certificate, the key of that, and who issued it."""
        issued = {server: tuple(self._issued(server)) for server in sorted(self.surveys)}
        for agent, survey in sorted(self.surveys.items()):
            for bundle, line in ((one, line) for one in survey.trusted() for line in one.delegations):
                for key, issuer in issued.get(line.server, ()):
                    if issuer == line.issuer and key not in bundle.denied:
                        yield agent, line.server, key, issuer

    def _issued(self, server: HostName) -> Iterator[tuple[SpkiDigest, SpkiDigest]]:
        """The keys within reach of a server that somebody vouches for, and who."""
        whole = self.wholes.get(server)
        for held in self.surveys[server].credentials:
            pem, chain = whole.certificates.get(held.name, ("", "")) if whole is not None else ("", "")
            if held.disarmed or held.key is None or not pem or not chain:
                continue
            try:
                leaf, issuers = parse_certificate(pem), parse_chain(chain)
            except KeyMaterialError:
                continue
            if not issuers:
                continue
            issuer = issuers[0]
            fault = fault_of(
                leaf, server=server, issuer=issuer, grace=timedelta(0), denied=(), at=leaf.not_before
            )
            if fault is None and leaf.public_key.spki_digest == held.key:
                yield held.key, issuer.public_key.spki_digest

    def in_use(self) -> Mapping[HostName, HeldCredential]:
        """What each server's link leads to, where a key lies there."""
        return {
            server: held
            for server, survey in sorted(self.surveys.items())
            for held in survey.credentials
            if held.name == survey.current and not held.disarmed and held.key is not None
        }
