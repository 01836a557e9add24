"""Keys that hosts have and a restored ledger does not know: taken over as if they had always been known (S9).

A restored ledger knows nothing of what was done after its backup. Servers have their keys and certificates,
and agents the public keys that they trust. A key in use is *adopted*: its credential is written as if it had
always been known, so that bundles go on naming it. One that nobody stands behind is treated as leaked.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import partial

from orchestrator.errors import KeyMaterialError
from orchestrator.inventory.model import HostName
from orchestrator.keys.certificate import Certificate, parse_certificate, parse_chain
from orchestrator.keys.material import PublicKey, Random, SpkiDigest
from orchestrator.keys.path import verify_chain
from orchestrator.policy.desired import Desired, KeySpec, Origin, PlaybookName, ScopeName
from orchestrator.rotation.hearsay import Accusation, Claim, weighed
from orchestrator.rotation.home_events import FoundCredential
from orchestrator.rotation.observed import EARLIEST, LATEST, HeldCredential
from orchestrator.rotation.recorded import Credential, Recorded
from orchestrator.rotation.sight import Ending, Sight
from orchestrator.rotation.visits import CredentialId

_ID = re.compile(r"[0-9a-f]{32}")


class Adoption:
    """What is taken over from a fleet.

    Attributes:
        found: the credentials that were adopted.
        ids: by key the credential, of adopted ones and of those that the ledger knew.
        ended: the keys that have ended, with those that are treated as leaked for what was seen.
        trusted: as ``Sight.trusted``, without the claims that are not believed.
        believed: each server with a key that some agent trusts it with.
    """

    def __init__(
        self,
        recorded: Recorded,
        sight: Sight,
        *,
        random: Random,
        accused: Collection[Accusation],
        denied: Collection[Claim],
    ) -> None:
        self._recorded = recorded
        self._sight = sight
        self._publics = {digest: key for whole in sight.wholes.values() for digest, key in whole.keys.items()}
        refused = {(agent, one.server, one.key) for one in denied for agent in one.agents}
        self.trusted = set(sight.trusted()) - refused
        self.believed = {(server, key) for _, server, key in self.trusted}
        self._own = {issuer.key for issuer in recorded.own_issuers()}
        self._vouched = {(s, key) for _, s, key, issuer in sight.vouched() if issuer in self._own}
        self.ended = weighed(recorded, sight, accused)
        self._ids: dict[SpkiDigest, CredentialId] = {
            credential.public.spki_digest: credential.id
            for credential in recorded.credentials.values()
            if credential.public is not None
        }
        self._true = self._true_keys()
        self.found: dict[CredentialId, FoundCredential] = {}
        for server, survey in sorted(sight.surveys.items()):
            for held in survey.credentials:
                self._adopt(server, held)
        for server, key in sorted(self.believed):
            self._adopt_trusted(server, key, random)
        self.ids = {**self._ids, **{found.public.spki_digest: found.id for found in self.found.values()}}

    def _adopt(self, server: HostName, held: HeldCredential) -> None:
        """Take over a key that lies on a server; it may go on being used if it is certified, or trusted."""
        known = self._recorded.credentials.get(CredentialId(held.name))
        public = self._publics.get(held.key) if held.key is not None else None
        if public is None or not _ID.fullmatch(held.name) or (known is not None and known.public is not None):
            return
        alias = self._ids.get(public.spki_digest)
        if alias is not None:
            other = self._recorded.credentials[alias]
            if other.certificates or not other.compromised:
                return
            # Until now only agents told of it, and it was ended since nobody could ask this server.
            self._leaked(public.spki_digest, other.ended_why)
        certificate, chain = self._certificate(server, held, public)
        if known is not None and (certificate is None or server not in known.servers):
            return
        if certificate is None and self._lies_elsewhere(server, held):
            return
        credential = CredentialId(held.name)
        believed = certificate is not None or (server, public.spki_digest) in self.believed
        relied = any(key == public.spki_digest for _, key in self.believed)
        if not believed and not relied and held.name == self._sight.surveys[server].current:
            self._leaked(public.spki_digest, f"{server} uses it, though nobody has certified it")
        if self._true.get(credential, public.spki_digest) != public.spki_digest:
            return
        before = self.found.get(credential)
        certificates = dict(before.certificates) if before is not None else {}
        chains = dict(before.chains) if before is not None else {}
        if certificate is not None:
            certificates[server], chains[server] = certificate, chain
        servers = tuple(sorted({*(before.servers if before is not None else ()), server}))
        self.found[credential] = self._credential(credential, public, servers, certificates, chains)

    def _true_keys(self) -> Mapping[CredentialId, SpkiDigest]:
        """Which key an id stands for, where servers show several by it.

        A server of a shared scope knows the id, and may put any key there, with a certificate if it once had
        one. So that key counts which most agents trust such a server with; then one that is certified; then
        the one that most servers show. A key that is known by another id is not meant.
        """
        shown: dict[CredentialId, dict[SpkiDigest, set[HostName]]] = {}
        certified: set[SpkiDigest] = set()
        for server, survey in sorted(self._sight.surveys.items()):
            for held in survey.credentials:
                public = self._publics.get(held.key) if held.key is not None else None
                if public is None or public.spki_digest in self._ids:
                    continue
                servers = shown.setdefault(CredentialId(held.name), {})
                servers.setdefault(public.spki_digest, set()).add(server)
                if self._certificate(server, held, public)[0] is not None:
                    certified.add(public.spki_digest)
        agents: dict[SpkiDigest, set[tuple[HostName, HostName]]] = {}
        for agent, server, key in self.trusted:
            agents.setdefault(key, set()).add((agent, server))

        def standing(servers: Mapping[SpkiDigest, set[HostName]], key: SpkiDigest) -> tuple[int, bool, int]:
            trusting = {agent for agent, server in agents.get(key, ()) if server in servers[key]}
            return len(trusting), key in certified, len(servers[key])

        return {
            credential: max(sorted(keys), key=partial(standing, keys))
            for credential, keys in shown.items()
            if len(keys) > 1
        }

    def _lies_elsewhere(self, server: HostName, held: HeldCredential) -> bool:
        """Whether another server has the key by another name; who only claims it too brings it no ending."""
        return any(
            one.key == held.key and one.name != held.name
            for other, survey in self._sight.surveys.items()
            if other != server
            for one in survey.credentials
        )

    def _adopt_trusted(self, server: HostName, key: SpkiDigest, random: Random) -> None:
        """Take over a key that only agents know: messages signed with it may still be on their way."""
        there = {found.public.spki_digest for found in self.found.values()}
        public = self._publics.get(key)
        asked, unmet = server in self._sight.surveys, server in self._recorded.unmet
        if key in self._ids or key in there or public is None or not (asked or unmet):
            return
        credential = CredentialId(random(16).hex())
        servers = tuple(sorted({name for name, one in self.believed if one == key}))
        asked = not self._sight.surveys.keys().isdisjoint(servers)
        self.found[credential] = self._credential(credential, public, servers, {}, {})
        if not asked:
            self._leaked(key, f"{server}, which may have it, was not asked when the home was restored")

    def _leaked(self, key: SpkiDigest, why: str) -> None:
        """Treat a key as leaked, unless somebody has said that it is already."""
        before = self.ended.get(key)
        if before is None or not before.leaked:
            self.ended[key] = Ending(leaked=True, why=why)

    def _credential(
        self,
        credential: CredentialId,
        public: PublicKey,
        servers: tuple[HostName, ...],
        certificates: Mapping[HostName, str],
        chains: Mapping[HostName, str],
    ) -> FoundCredential:
        playbook, scope = self.place(servers[0])
        spec = self._recorded.playbooks[playbook].key if playbook in self._recorded.playbooks else None
        origin = spec.origin if spec is not None else Origin.SERVER
        certificates = self._soundest(certificates, chains)
        chains = {server: chains[server] for server in certificates}
        dates = [parse_certificate(pem) for pem in certificates.values()]
        end = self._end(public, dates)
        known = self._recorded.credentials.get(credential)
        return FoundCredential(
            id=credential,
            playbook=playbook,
            scope=known.scope if known is not None else scope,
            key=KeySpec(algorithm=public.algorithm, origin=origin),
            servers=servers,
            public=public,
            certificates=certificates,
            chains=chains,
            not_before=self._beginning(playbook, dates, end),
            not_after=end,
            issuers=self._issuers(chains) if self._is_delegated(known, public, servers) else {},
        )

    def _is_delegated(
        self, known: Credential | None, public: PublicKey, servers: tuple[HostName, ...]
    ) -> bool:
        """Whether agents are to believe a key by its certificate."""
        if known is not None:
            return known.delegated
        return any((server, public.spki_digest) in self._vouched for server in servers)

    def _issuers(self, chains: Mapping[HostName, str]) -> Mapping[HostName, SpkiDigest]:
        """Which of the fleet's own issuers has certified a key, by server."""
        first = {
            server: chain[0].public_key.spki_digest
            for server, pem in chains.items()
            if (chain := _chain(pem))
        }
        return {server: issuer for server, issuer in first.items() if issuer in self._own}

    def _soundest(
        self, certificates: Mapping[HostName, str], chains: Mapping[HostName, str]
    ) -> Mapping[HostName, str]:
        """The certificates that the fleet's root stands behind; all, where it does so behind none."""
        there = {server: parse_certificate(pem) for server, pem in certificates.items()}
        sound = [server for server, leaf in there.items() if self._is_sound(server, leaf, chains[server])]
        return {server: certificates[server] for server in sound} or certificates

    def _end(self, public: PublicKey, dates: Collection[Certificate]) -> datetime | None:
        """When a key ends: not before the last certificate, nor after agents refuse it."""
        refused = self._edge_end(public)
        if not dates:
            return refused
        last = _bounded(max(one.not_after for one in dates))
        return last if refused is None else min(last, refused)

    def _beginning(
        self, playbook: PlaybookName, dates: Collection[Certificate], end: datetime | None
    ) -> datetime | None:
        """When the cryptoperiod began; certificates are backdated, and say when it ends."""
        if not dates or end is None:
            return None
        begun = _bounded(min(one.not_before for one in dates))
        desired = self._recorded.playbooks.get(playbook)
        if desired is None:
            return begun
        likely = end - desired.certificate.lifetime
        return likely if likely <= begun + 2 * desired.messages.clock_skew else begun

    def _edge_end(self, public: PublicKey) -> datetime | None:
        """Until when most agents accept a key that nothing else is known of; one of them may say anything."""
        words = {
            (agent, edge.expires)
            for agent, survey in self._sight.surveys.items()
            for bundle in survey.trusted()
            for edge in bundle.edges
            if edge.key == public.spki_digest and edge.expires is not None
        }
        told = Counter(expires for _, expires in words)
        often = max(told.values(), default=0)
        ends = [expires for expires, times in told.items() if times == often]
        if not ends:
            return None
        return datetime.fromtimestamp(min(max(*ends, EARLIEST.timestamp()), LATEST.timestamp()), tz=UTC)

    def _certificate(
        self, server: HostName, held: HeldCredential, public: PublicKey
    ) -> tuple[str | None, str]:
        """The certificate and chain of a key on a server, if the fleet's root or agents stand behind them."""
        whole = self._sight.wholes.get(server)
        pem, chain = whole.certificates.get(held.name, ("", "")) if whole is not None else ("", "")
        if not pem:
            return None, ""
        try:
            leaf = parse_certificate(pem)
        except KeyMaterialError:
            return None, ""
        stands = (server, public.spki_digest) in self.believed or self._is_sound(server, leaf, chain)
        return (pem, chain) if stands and leaf.public_key == public else (None, "")

    def _is_sound(self, server: HostName, leaf: Certificate, chain: str) -> bool:
        """Whether the fleet's root stands behind a certificate of the server."""
        try:
            root = parse_certificate(self._recorded.root)
            verify_chain(leaf, _chain(chain), root, at=leaf.not_before, name=server)
        except KeyMaterialError:
            return False
        return True

    def place(self, server: HostName) -> tuple[PlaybookName, ScopeName]:
        """The playbook and scope of a server as the ledger knows them; a guess for one that joined later."""
        playbooks = self._recorded.playbooks
        record = self._recorded.servers.get(server)
        for name, desired in playbooks.items():
            for scope in desired.scopes:
                if server in scope.servers and (record is None or record.playbook == name):
                    return name, scope.name
        name = record.playbook if record is not None else self._playbook_of(server)
        return name, _guess(playbooks.get(name), server)

    def _playbook_of(self, server: HostName) -> PlaybookName:
        """The playbook whose agents listen to a server that the ledger does not know."""
        agents = {agent for agent, heard, _ in self.trusted if heard == server}
        listed = self._recorded.playbooks
        mine = [name for name, desired in listed.items() if agents & set(desired.agents())]
        return next(iter([*mine, *listed]), PlaybookName(""))


def _bounded(at: datetime) -> datetime:
    return max(EARLIEST, min(at, LATEST))


def _chain(pem: str) -> tuple[Certificate, ...]:
    return parse_chain(pem) if pem else ()


def _guess(desired: Desired | None, server: HostName) -> ScopeName:
    if desired is not None and len(desired.scopes) == 1 and len(desired.scopes[0].servers) > 1:
        return desired.scopes[0].name
    return ScopeName(f"server:{server}")
