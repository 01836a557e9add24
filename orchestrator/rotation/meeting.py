"""What hosts tell a ledger that is behind them: keys that it does not know, and keys that have ended (S9).

A restored ledger knows nothing of what was done after its backup. Hosts do: servers have their keys and
certificates, agents have the public keys that they trust, and both remember the keys that were taken from
them (``tombstones.py``). A key in use is *adopted*: its credential is written as if it had always been known,
so that bundles go on naming it. A key that leaked, by what is told (``hearsay.py``), becomes compromised.
One that ended in another way is *over*: it is never used anew, and where it is in use all the same, another
one takes its place by an ordinary handover. Whatever a server may have signed with lately is kept until no
such message can be valid any more (S7).
"""

from collections.abc import Collection, Iterator, Mapping

from orchestrator.inventory.model import HostName
from orchestrator.keys.material import Random, SpkiDigest
from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation.adopting import Adoption
from orchestrator.rotation.hearsay import Accusation, claims, superseded
from orchestrator.rotation.home_events import HostsMet
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import Credential, Recorded
from orchestrator.rotation.sight import Ending, Sight
from orchestrator.rotation.visits import CredentialId


def meet(
    recorded: Recorded,
    sight: Sight,
    *,
    random: Random,
    believed: Collection[Accusation] = (),
    doubted: Collection[HostName] = (),
) -> HostsMet:
    """What a ledger takes over from hosts that it has not met since it was restored.

    Args:
        recorded: the ledger; the surveys not yet taken in.
        sight: what was seen.
        random: for the ids of keys that only agents know.
        believed: the accusations that a person believes; a key that hosts accuse without is over.
        doubted: the hosts that a person does not believe; a key that only such agents tell of they lose.
    """
    told = claims(recorded, sight)
    denied = [one for one in told if set(one.agents) <= set(doubted)]
    adopted = Adoption(recorded, sight, random=random, accused=believed, denied=denied)
    return _Meeting(recorded, sight, adopted, {(one.server, one.key) for one in told}).event()


class _Meeting:
    """The ledger and the fleet, facing each other."""

    def __init__(
        self,
        recorded: Recorded,
        sight: Sight,
        adopted: Adoption,
        claimed: Collection[tuple[HostName, SpkiDigest]],
    ) -> None:
        self._recorded = recorded
        self._sight = sight
        self._adopted = adopted
        self._claimed = claimed

    def event(self) -> HostsMet:
        known = self._recorded.credentials
        ids = self._adopted.ids
        endings = {ids[key]: one for key, one in self._adopted.ended.items() if key in ids}
        ended = {credential: one.why for credential, one in endings.items() if one.leaked}
        over = {credential: one.why for credential, one in endings.items() if not one.leaked}
        servers = self._new_servers()
        armed = self._armed(ids, {*self._recorded.servers, *servers}, ended)
        return HostsMet(
            hosts=tuple(sorted(self._sight.surveys)),
            found=tuple(self._adopted.found[credential] for credential in sorted(self._adopted.found)),
            ended={
                credential: why
                for credential, why in sorted(ended.items())
                if credential not in known or self._is_news(known[credential])
            },
            armed=armed,
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
            superseded=superseded(self._recorded, self._sight),
            hearsay=self._hearsay(ids, armed),
        )

    def _hearsay(
        self, ids: Mapping[SpkiDigest, CredentialId], armed: Mapping[HostName, tuple[CredentialId, ...]]
    ) -> Mapping[HostName, tuple[CredentialId, ...]]:
        """What of that only agents say."""
        told: dict[HostName, set[CredentialId]] = {}
        for server, key in self._claimed:
            if ids.get(key) in armed.get(server, ()):
                told.setdefault(server, set()).add(ids[key])
        return {server: tuple(sorted(credentials)) for server, credentials in sorted(told.items())}

    def _is_news(self, credential: Credential) -> bool:
        """Whether it matters that the key has ended: it is not gone, or lies somewhere all the same."""
        if credential.compromised:
            return False
        public = credential.public.spki_digest if credential.public is not None else None
        there = any(h.key == public for s in self._sight.surveys.values() for h in s.credentials)
        trusted = any(key == public for _, _, key in self._adopted.trusted)
        return credential.state is not KeyState.REMOVED or there or trusted

    def _new_servers(self) -> Mapping[HostName, PlaybookName]:
        """Servers that joined after the backup: they are known by keys that were adopted from them."""
        return {
            server: self._adopted.place(server)[0]
            for server, survey in sorted(self._sight.surveys.items())
            if server not in self._recorded.servers
            and any(CredentialId(held.name) in self._adopted.found for held in survey.credentials)
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
        for server, key in self._adopted.believed:
            if server in servers and key in ids:
                armed.setdefault(server, set()).add(ids[key])
        for server in servers & self._sight.surveys.keys():
            for held in self._sight.surveys[server].credentials:
                if not held.disarmed and CredentialId(held.name) in self._adopted.found:
                    armed.setdefault(server, set()).add(CredentialId(held.name))
        # A server that was not asked may hold what its agents knew it by, even if that has ended (S3).
        lying = {
            server: credentials - ended.keys() if server in self._sight.surveys else credentials
            for server, credentials in sorted(armed.items())
        }
        return {server: tuple(sorted(credentials)) for server, credentials in lying.items() if credentials}

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
        found, known = self._adopted.found.get(credential), self._recorded.credentials.get(credential)
        return server in (found.certificates if found is not None else known.certificates if known else {})

    def _may_go_on(self, credential: CredentialId, endings: Mapping[CredentialId, Ending]) -> bool:
        """Whether a server may be meant to have the key; one that this ledger has removed is gone."""
        known, ending = self._recorded.credentials.get(credential), endings.get(credential)
        if ending is not None and ending.leaked:
            return False
        return known is None or (known.ended is None and known.state is not KeyState.REMOVED)

    def _may_come_back(
        self, credential: CredentialId, server: HostName, endings: Mapping[CredentialId, Ending]
    ) -> bool:
        """Whether a server goes on to be meant to have a key that it was not seen to use."""
        over = credential in endings or bool(self._recorded.credentials[credential].over)
        return self._may_go_on(credential, endings) and not (over and server in self._sight.surveys)
