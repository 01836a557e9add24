"""What hosts and later ledgers say of keys that have ended, and how far each word is believed (S9).

A key that anybody calls ended is never used anew, whoever says so. To take it away from those who rely on it,
without waiting for anybody, is more than the word of a host may do: a host may lie. So such a word is an
*accusation*, which a person believes or does not; until then the key counts as removed.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.keys.material import PublicKey, SpkiDigest
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.sight import Ending, Sight

NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Accusation:
    """A host says that a key has leaked, and others rely on that key.

    Attributes:
        host: who says so.
        servers: whose key it is.
        thumbprint: of the key; empty where nobody tells the whole key.
        why: what it says.
    """

    host: HostName
    key: SpkiDigest
    servers: tuple[HostName, ...]
    thumbprint: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Claim:
    """Agents trust a server with a key that neither it nor the ledger tells of.

    It may be one that was made since the backup, for a server whose base is not mounted now; or one that an
    agent in hostile hands has made up. So those who trust it go on to, while the server may sign with it, and
    no other agent is given it.

    Attributes:
        agents: that trust it, sorted.
        thumbprint: of the key; empty where nobody tells the whole key.
    """

    server: HostName
    key: SpkiDigest
    agents: tuple[HostName, ...]
    thumbprint: str


def claims(recorded: Recorded, sight: Sight) -> tuple[Claim, ...]:
    """The keys that agents alone speak of, each with a server that they trust with it."""
    publics = _publics(recorded, sight)
    shown = {(server, held.key) for server, survey in sight.surveys.items() for held in survey.credentials}
    known = {*shown, *_known(recorded)}
    agents: dict[tuple[HostName, SpkiDigest], set[HostName]] = {}
    for agent, server, key in sight.pinned():
        if (server, key) not in known:
            agents.setdefault((server, key), set()).add(agent)
    return tuple(
        Claim(
            server=server,
            key=key,
            agents=tuple(sorted(those)),
            thumbprint=publics[key].thumbprint if key in publics else "",
        )
        for (server, key), those in sorted(agents.items())
    )


def _known(recorded: Recorded) -> Iterator[tuple[HostName, SpkiDigest]]:
    """What a ledger itself says that servers may sign with, or are to: what it certified, and did not end."""
    made = {
        (server, credential.id)
        for credential in recorded.credentials.values()
        if credential.state is not KeyState.REMOVED
        for server in credential.certificates
    }
    signing = {(server, c) for server in recorded.servers for c in recorded.may_sign(server)}
    heard = {(server, c) for server, record in recorded.servers.items() for c in record.hearsay}
    for server, credential in (made | signing) - heard:
        public = recorded.credentials[credential].public
        if public is not None:
            yield server, public.spki_digest


def _publics(recorded: Recorded, sight: Sight) -> Mapping[SpkiDigest, PublicKey]:
    """Every key that is known whole."""
    return {digest: key for whole in sight.wholes.values() for digest, key in whole.keys.items()} | {
        credential.public.spki_digest: credential.public
        for credential in recorded.credentials.values()
        if credential.public is not None
    }


def ended_in(recorded: Recorded) -> Mapping[SpkiDigest, Ending]:
    """The keys that have ended by a ledger, for one that is behind it (``Sight.ended``)."""
    return {
        credential.public.spki_digest: Ending(
            leaked=credential.compromised,
            why=f"the later ledger calls it {credential.ended or credential.state}",
        )
        for credential in recorded.credentials.values()
        if credential.public is not None
        and (credential.ended is not None or credential.state is KeyState.REMOVED)
    }


def accusations(recorded: Recorded, sight: Sight) -> tuple[Accusation, ...]:
    """The words by which hosts alone would take keys away from others."""
    relied = _relied_on(recorded, sight)
    known = {key for key, ending in sight.ended.items() if ending.leaked} | _leaked(recorded)
    publics = _publics(recorded, sight)
    return tuple(
        sorted(
            Accusation(
                host=ending.by,
                key=key,
                servers=tuple(sorted(relied[key])),
                thumbprint=publics[key].thumbprint if key in publics else "",
                why=ending.why,
            )
            for key, ending in _told(recorded, sight)
            if ending.by is not None and ending.leaked and key in relied and key not in known
        )
    )


def refuse_accusations(
    told: Collection[Accusation], *, believed: Collection[HostName], doubted: Collection[HostName]
) -> None:
    """Refuse to take a key away from those who rely on it, or not to, before a person has said which.

    Args:
        told: the accusations.
        believed: the hosts that a person believes; one of those that accuse a key is enough.
        doubted: the hosts that a person does not believe.

    Raises:
        RefusedError: names the keys, and the hosts that say that they have leaked.
    """
    true = {one.key for one in told if one.host in believed}
    left = [one for one in told if one.key not in true and one.host not in doubted]
    if not left:
        return
    words = [f"key {one.thumbprint[:10]} of {', '.join(one.servers)}: {one.why}" for one in left[:NAMED]]
    more = f"; and {len(left) - NAMED} more" if len(left) > NAMED else ""
    host = left[0].host
    raise RefusedError(
        f"hosts say that keys have leaked that others rely on: {'; '.join(words)}{more}",
        hint=f"If it has leaked, say --believe {host}: nobody waits for anybody then. If nobody knows, say"
        f" --disbelieve {host}: another key takes its place by an ordinary handover.",
    )


def weighed(recorded: Recorded, sight: Sight, believed: Collection[Accusation]) -> dict[SpkiDigest, Ending]:
    """What is to be held of each key that is said to have ended.

    Args:
        recorded: the ledger.
        sight: what was seen.
        believed: the accusations that a person believes.
    """
    true = {(one.host, one.key) for one in believed}
    doubted = {(one.host, one.key) for one in accusations(recorded, sight)} - true
    found: dict[SpkiDigest, Ending] = {}
    for key, told in _told(recorded, sight):
        ending = told
        if (told.by, key) in doubted:
            ending = replace(told, leaked=False, why=f"{told.why}, which nobody has confirmed")
        if key not in found or (ending.leaked and not found[key].leaked):
            found[key] = ending
    return found


def superseded(recorded: Recorded, sight: Sight) -> tuple[HostName, ...]:
    """The agents with an issuer that the ledger does not know: its own was replaced since the backup.

    Why, nobody tells. If its key had leaked, agents must not be given it again.
    """
    own = {issuer.key for issuer in recorded.own_issuers()}
    return tuple(
        agent
        for agent, survey in sorted(sight.surveys.items())
        if survey.bundle is not None
        and not own.issuperset((*survey.bundle.issuers, *(line.issuer for line in survey.bundle.delegations)))
    )


def _told(recorded: Recorded, sight: Sight) -> Iterator[tuple[SpkiDigest, Ending]]:
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
                yield public.spki_digest, Ending(leaked=False, why=why, by=agent)
    for host, survey in sorted(sight.surveys.items()):
        for key in survey.bundle.denied if survey.bundle is not None else ():
            yield key, Ending(leaked=True, why=f"{host} denies it", by=host)
        for stone in survey.ended:
            why = f"{host} remembers it as {stone.how}"
            yield stone.key, Ending(leaked=stone.how == "compromised", why=why, by=host)
    yield from sight.ended.items()


def _relied_on(recorded: Recorded, sight: Sight) -> Mapping[SpkiDigest, set[HostName]]:
    """The keys that a server may sign with or an agent trusts, each with its servers."""
    relied: dict[SpkiDigest, set[HostName]] = {}
    for server, survey in sight.surveys.items():
        for held in survey.credentials:
            if held.key is not None and not held.disarmed:
                relied.setdefault(held.key, set()).add(server)
    for _, server, key in sight.trusted():
        relied.setdefault(key, set()).add(server)
    for server in recorded.servers.keys() - {s for s, survey in sight.surveys.items() if survey.credentials}:
        for credential in recorded.may_sign(server):
            public = recorded.credentials[credential].public
            if public is not None:
                relied.setdefault(public.spki_digest, set()).add(server)
    return relied


def _leaked(recorded: Recorded) -> frozenset[SpkiDigest]:
    """The keys that have leaked by the ledger itself."""
    return frozenset(
        c.public.spki_digest for c in recorded.credentials.values() if c.compromised and c.public is not None
    )
