"""What hosts tell a ledger that is behind them: keys that it does not know, and keys that have ended (S9).

A restored ledger knows nothing of what was done after its backup. Hosts do: servers have their keys and
certificates, agents have the public keys that they trust, and both remember the keys that were taken from
them (``tombstones.py``). A key in use is *adopted*: its credential is written as if it had always been known,
so that bundles go on naming it. A key that any host remembers as leaked or lost is written as compromised.
One that hosts only remember as removed is *over*: it is never used anew, and where it is in use all the same,
another one takes its place by an ordinary handover. Whatever a server may have signed with lately is kept
until no such message can be valid any more (S7).
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from orchestrator.errors import KeyMaterialError
from orchestrator.inventory.model import HostName
from orchestrator.keys.certificate import Certificate, parse_certificate, parse_chain
from orchestrator.keys.material import PublicKey, Random, SpkiDigest
from orchestrator.keys.path import verify_chain
from orchestrator.policy.desired import Desired, KeySpec, Origin, PlaybookName, ScopeName
from orchestrator.rotation.home_events import FoundCredential, HostsMet
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.observed import HeldCredential
from orchestrator.rotation.recorded import Credential, Recorded
from orchestrator.rotation.sight import Ending, Sight
from orchestrator.rotation.visits import CredentialId

_ID = re.compile(r"[0-9a-f]{32}")


def meet(recorded: Recorded, sight: Sight, *, random: Random) -> HostsMet:
    """What a ledger takes over from hosts that it has not met since it was restored.

    Args:
        recorded: the ledger; the surveys not yet taken in.
        sight: what was seen.
        random: for the ids of keys that only agents know.
    """
    return _Meeting(recorded, sight).event(random)


class _Meeting:
    """The ledger and the fleet, facing each other."""

    def __init__(self, recorded: Recorded, sight: Sight) -> None:
        self._recorded = recorded
        self._sight = sight
        self._publics = {digest: key for whole in sight.wholes.values() for digest, key in whole.keys.items()}
        self._trusted = set(sight.trusted())
        self._believed = {(server, key) for _, server, key in self._trusted}
        self._own = {issuer.key for issuer in recorded.own_issuers()}
        self._vouched = {(s, key) for _, s, key, issuer in sight.vouched() if issuer in self._own}
        self._ended = _strongest(ended_keys(recorded, sight))
        self._ids: dict[SpkiDigest, CredentialId] = {
            credential.public.spki_digest: credential.id
            for credential in recorded.credentials.values()
            if credential.public is not None
        }
        self._found: dict[CredentialId, FoundCredential] = {}

    def event(self, random: Random) -> HostsMet:
        for server, survey in sorted(self._sight.surveys.items()):
            for held in survey.credentials:
                self._adopt(server, held)
        for server, key in sorted(self._believed):
            self._adopt_trusted(server, key, random)
        known = self._recorded.credentials
        ids = {**self._ids, **{found.public.spki_digest: found.id for found in self._found.values()}}
        endings = {ids[key]: one for key, one in self._ended.items() if key in ids}
        ended = {credential: one.why for credential, one in endings.items() if one.leaked}
        over = {credential: one.why for credential, one in endings.items() if not one.leaked}
        servers = self._new_servers()
        return HostsMet(
            hosts=tuple(sorted(self._sight.surveys)),
            found=tuple(self._found[credential] for credential in sorted(self._found)),
            ended={
                credential: why
                for credential, why in sorted(ended.items())
                if credential not in known or self._is_news(known[credential])
            },
            armed=self._armed(ids, {*self._recorded.servers, *servers}, ended),
            targets=dict(self._targets(ids, endings)),
            servers=servers,
            agents=self._new_agents(),
            endpoints={host: self._sight.endpoints[host] for host in sorted(self._sight.surveys)},
            over={
                credential: why
                for credential, why in sorted(over.items())
                if credential not in known
                or (not known[credential].over and self._is_news(known[credential]))
            },
        )

    def _is_news(self, credential: Credential) -> bool:
        """Whether it matters that the key has ended: it is not gone, or lies somewhere all the same."""
        if credential.compromised:
            return False
        public = credential.public.spki_digest if credential.public is not None else None
        there = any(h.key == public for s in self._sight.surveys.values() for h in s.credentials)
        trusted = any(key == public for _, _, key in self._trusted)
        return credential.state is not KeyState.REMOVED or there or trusted

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
        if known is not None and certificate is None:
            return
        credential = CredentialId(held.name)
        believed = certificate is not None or (server, public.spki_digest) in self._believed
        if not believed and held.name == self._sight.surveys[server].current:
            self._leaked(public.spki_digest, f"{server} uses it, though nobody has certified it")
        before = self._found.get(credential)
        if before is not None and before.public != public:
            return
        certificates = dict(before.certificates) if before is not None else {}
        chains = dict(before.chains) if before is not None else {}
        if certificate is not None:
            certificates[server], chains[server] = certificate, chain
        servers = tuple(sorted({*(before.servers if before is not None else ()), server}))
        self._found[credential] = self._credential(credential, public, servers, certificates, chains)

    def _adopt_trusted(self, server: HostName, key: SpkiDigest, random: Random) -> None:
        """Take over a key that only agents know: messages signed with it may still be on their way."""
        there = {found.public.spki_digest for found in self._found.values()}
        public = self._publics.get(key)
        asked, unmet = server in self._sight.surveys, server in self._recorded.unmet
        if key in self._ids or key in there or public is None or not (asked or unmet):
            return
        credential = CredentialId(random(16).hex())
        servers = tuple(sorted({name for name, one in self._believed if one == key}))
        self._found[credential] = self._credential(credential, public, servers, {}, {})
        if not asked:
            self._leaked(key, f"{server}, which may have it, was not asked when the home was restored")

    def _leaked(self, key: SpkiDigest, why: str) -> None:
        """Treat a key as leaked, unless somebody has said that it is already."""
        before = self._ended.get(key)
        if before is None or not before.leaked:
            self._ended[key] = Ending(leaked=True, why=why)

    def _credential(
        self,
        credential: CredentialId,
        public: PublicKey,
        servers: tuple[HostName, ...],
        certificates: Mapping[HostName, str],
        chains: Mapping[HostName, str],
    ) -> FoundCredential:
        playbook, scope = self._place(servers[0])
        spec = self._recorded.playbooks[playbook].key if playbook in self._recorded.playbooks else None
        origin = spec.origin if spec is not None else Origin.SERVER
        dates = [parse_certificate(pem) for pem in certificates.values()]
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
            not_before=self._beginning(playbook, dates),
            not_after=max((one.not_after for one in dates), default=None) or self._edge_end(public),
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
        first = {server: _chain(pem)[0].public_key.spki_digest for server, pem in chains.items() if pem}
        return {server: issuer for server, issuer in first.items() if issuer in self._own}

    def _beginning(self, playbook: PlaybookName, dates: list[Certificate]) -> datetime | None:
        """When the cryptoperiod began; certificates are backdated, and say when it ends."""
        if not dates:
            return None
        begun, desired = min(one.not_before for one in dates), self._recorded.playbooks.get(playbook)
        if desired is None:
            return begun
        likely = max(one.not_after for one in dates) - desired.certificate.lifetime
        return likely if likely <= begun + 2 * desired.messages.clock_skew else begun

    def _edge_end(self, public: PublicKey) -> datetime | None:
        """Until when agents accept a key that nothing else is known of."""
        ends = [
            edge.expires
            for survey in self._sight.surveys.values()
            if survey.bundle is not None
            for edge in survey.bundle.edges
            if edge.key == public.spki_digest and edge.expires is not None
        ]
        return datetime.fromtimestamp(max(ends), tz=UTC) if ends else None

    def _certificate(
        self, server: HostName, held: HeldCredential, public: PublicKey
    ) -> tuple[str | None, str]:
        """The certificate and chain of a key on a server, if the fleet's root or agents stand behind them."""
        whole = self._sight.wholes.get(server)
        pem, chain = whole.certificates.get(held.name, ("", "")) if whole is not None else ("", "")
        if not pem:
            return None, ""
        try:
            leaf, root = parse_certificate(pem), parse_certificate(self._recorded.root)
            if (server, public.spki_digest) not in self._believed:
                verify_chain(leaf, _chain(chain), root, at=leaf.not_before, name=server)
        except KeyMaterialError:
            return None, ""
        return (pem, chain) if leaf.public_key == public else (None, "")

    def _place(self, server: HostName) -> tuple[PlaybookName, ScopeName]:
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
        agents = {agent for agent, heard, _ in self._trusted if heard == server}
        listed = self._recorded.playbooks
        mine = [name for name, desired in listed.items() if agents & set(desired.agents())]
        return next(iter([*mine, *listed]), PlaybookName(""))

    def _new_servers(self) -> Mapping[HostName, PlaybookName]:
        """Servers that joined after the backup: they are known by keys that were adopted from them."""
        return {
            server: self._place(server)[0]
            for server, survey in sorted(self._sight.surveys.items())
            if server not in self._recorded.servers
            and any(CredentialId(held.name) in self._found for held in survey.credentials)
        }

    def _new_agents(self) -> tuple[HostName, ...]:
        return tuple(
            agent
            for agent, survey in sorted(self._sight.surveys.items())
            if agent not in self._recorded.agents and survey.bundle is not None
        )

    def _armed(
        self,
        ids: Mapping[SpkiDigest, CredentialId],
        servers: set[HostName],
        ended: Mapping[CredentialId, str],
    ) -> Mapping[HostName, tuple[CredentialId, ...]]:
        """What each server may have signed with lately: what agents trust, and what lies within reach."""
        armed: dict[HostName, set[CredentialId]] = {}
        for server, key in self._believed:
            if server in servers and key in ids:
                armed.setdefault(server, set()).add(ids[key])
        for server in servers & self._sight.surveys.keys():
            for held in self._sight.surveys[server].credentials:
                if not held.disarmed and CredentialId(held.name) in self._found:
                    armed.setdefault(server, set()).add(CredentialId(held.name))
        return {
            server: tuple(sorted(credentials - ended.keys()))
            for server, credentials in sorted(armed.items())
            if credentials - ended.keys()
        }

    def _targets(
        self, ids: Mapping[SpkiDigest, CredentialId], endings: Mapping[CredentialId, Ending]
    ) -> Iterator[tuple[HostName, CredentialId | None]]:
        """What servers are to have from now on: what they use, unless that has leaked."""
        in_use = self._sight.in_use()
        for server, record in sorted(self._recorded.servers.items()):
            if record.target is None or record.given_up:
                continue
            held = in_use.get(server)
            used = ids.get(held.key) if held is not None and held.key is not None else None
            if held is None or used != held.name:
                used = None
            certified = used is not None and self._is_certified(used, server)
            if used is not None and certified and self._may_go_on(used, endings):
                target: CredentialId | None = used
            else:
                target = record.target if self._may_come_back(record.target, server, endings) else None
            if target != record.target:
                yield server, target

    def _is_certified(self, credential: CredentialId, server: HostName) -> bool:
        found, known = self._found.get(credential), self._recorded.credentials.get(credential)
        return server in (found.certificates if found is not None else known.certificates if known else {})

    def _may_go_on(self, credential: CredentialId, endings: Mapping[CredentialId, Ending]) -> bool:
        known, ending = self._recorded.credentials.get(credential), endings.get(credential)
        return not (ending is not None and ending.leaked) and (known is None or known.ended is None)

    def _may_come_back(
        self, credential: CredentialId, server: HostName, endings: Mapping[CredentialId, Ending]
    ) -> bool:
        """Whether a server goes on to be meant to have a key that it was not seen to use."""
        over = credential in endings or bool(self._recorded.credentials[credential].over)
        return self._may_go_on(credential, endings) and not (over and server in self._sight.surveys)


def _strongest(words: Iterator[tuple[SpkiDigest, Ending]]) -> dict[SpkiDigest, Ending]:
    """What is to be believed of each key: that it leaked, where anybody says so."""
    strongest: dict[SpkiDigest, Ending] = {}
    for key, ending in words:
        if key not in strongest or (ending.leaked and not strongest[key].leaked):
            strongest[key] = ending
    return strongest


def ended_in(recorded: Recorded) -> Mapping[SpkiDigest, Ending]:
    """The keys that have ended by a ledger, for one that is behind it (``Sight.ended``)."""
    return {
        credential.public.spki_digest: Ending(
            leaked=credential.ended is not None,
            why=f"the later ledger calls it {credential.ended or credential.state}",
        )
        for credential in recorded.credentials.values()
        if credential.public is not None
        and (credential.ended is not None or credential.state is KeyState.REMOVED)
    }


def ended_keys(recorded: Recorded, sight: Sight) -> Iterator[tuple[SpkiDigest, Ending]]:
    """The keys that have ended by the word of any host, or of a later ledger, each with why.

    An agent's tombstone is one such word. Another is its bundle: one that denies the key; or one that came
    after the bundle that the ledger knows of, still names the server, and not the key.
    """
    for agent, survey in sorted(sight.surveys.items()):
        record = recorded.agents.get(agent)
        before = record.installed if record is not None else None
        if before is None or survey.bundle is None or survey.bundle.position <= before.position:
            continue
        heard = {edge.server for edge in survey.bundle.edges}
        heard |= {line.server for line in survey.bundle.delegations}
        there = {edge.key for edge in survey.bundle.edges}
        for line in before.lines:
            public = recorded.credentials[line.credential].public if line.credential else None
            if public is not None and line.server in heard and public.spki_digest not in there:
                why = f"{agent} has dropped it since the backup"
                yield public.spki_digest, Ending(leaked=False, why=why)
    for host, survey in sorted(sight.surveys.items()):
        for key in survey.bundle.denied if survey.bundle is not None else ():
            yield key, Ending(leaked=True, why=f"{host} denies it")
        for stone in survey.ended:
            why = f"{host} remembers it as {stone.how}"
            yield stone.key, Ending(leaked=stone.how != "removed", why=why)
    yield from sight.ended.items()


def _chain(pem: str) -> tuple[Certificate, ...]:
    return parse_chain(pem) if pem else ()


def _guess(desired: Desired | None, server: HostName) -> ScopeName:
    if desired is not None and len(desired.scopes) == 1 and len(desired.scopes[0].servers) > 1:
        return desired.scopes[0].name
    return ScopeName(f"server:{server}")
