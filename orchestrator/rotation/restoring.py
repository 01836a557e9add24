"""Opening a new generation for a home: a backup, or a home that hosts do not follow any more (S9). Pure.

Every host is asked first. One that does not answer may hold what nobody else tells of, so it blocks, unless a
person says that nobody waits for it. The new generation and epoch are above all that any host was seen with,
so that hosts refuse the controller of before from then on.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from orchestrator.errors import RefusedError, UsageError
from orchestrator.inventory.model import HostName
from orchestrator.keys.material import SpkiDigest
from orchestrator.rotation.home_events import HomeRestored, HostsMet
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.sight import Sight
from orchestrator.rotation.visits import CredentialId

FEW_AHEAD = 8
"""A home can have been restored as often since a backup; a host that claims more is not believed unasked."""

MOST_AHEAD = 2**20
"""A host that claims a generation or an epoch further ahead than this is not believed at all."""

NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranded:
    """An edge that holds now and would not after the restore, until a handover mends it."""

    agent: HostName
    server: HostName
    why: str


def open_generation(
    recorded: Recorded,
    sight: Sight,
    *,
    waived: Collection[HostName],
    believed: Collection[HostName] = (),
    backup: str = "",
    kept: Collection[CredentialId] | None = None,
) -> HomeRestored:
    """The generation and epoch that a home goes on with.

    Args:
        recorded: its ledger.
        sight: what was seen of the fleet; hosts that are waived count as not seen.
        waived: hosts that a person has said not to wait for.
        believed: hosts that a person believes, though they claim more than is likely.
        backup: the backup's id.
        kept: the credentials whose private keys the home has, where it was made of a backup.

    Raises:
        UsageError: a waived host is not one that is waited for.
        RefusedError: hosts did not answer, or are not believed; names them, and what waiving each would cost.
    """
    strangers = unknown_servers(sight)
    blocking = dict(blocking_hosts(recorded, sight, believed))
    for agent, servers in strangers.items():
        if agent not in waived:
            blocking |= dict.fromkeys(servers, _is_stranger(agent))
    unknown = sorted(set(waived) - blocking.keys() - strangers.keys())
    if unknown:
        raise UsageError(
            f"nobody waits for {unknown[0]}, so it cannot be waived", hint="Leave its --waive out."
        )
    left = {host: why for host, why in sorted(blocking.items()) if host not in waived}
    if left:
        told = [f"{host}: {why} (without it {waiver_cost(recorded, host)})" for host, why in left.items()]
        more = f"; and {len(told) - NAMED} more" if len(told) > NAMED else ""
        raise RefusedError(
            f"not every host tells what it holds: {'; '.join(told[:NAMED])}{more}",
            hint="Reach them (one that was set up anew by --host-key HOST=FINGERPRINT), "
            "or go on without them: --waive HOST for each.",
        )
    seen = [survey for host, survey in sight.surveys.items() if host not in waived]
    generations = [survey.fence[0] for survey in seen if survey.fence is not None]
    epochs = [survey.bundle.position.epoch for survey in seen if survey.bundle is not None]
    return HomeRestored(
        generation=max([recorded.generation, *generations]) + 1,
        epoch=max([recorded.position.epoch, *epochs]) + 1,
        unmet={host: waiver_cost(recorded, host) for host in sorted(waived)},
        backup=backup,
        kept=None if kept is None else tuple(sorted(kept)),
    )


def blocking_hosts(
    recorded: Recorded, sight: Sight, believed: Collection[HostName] = ()
) -> Iterator[tuple[HostName, str]]:
    """The hosts that keep a home from being restored, each with why."""
    yield from sight.failures.items()
    for host, (ahead, claim) in far_ahead(recorded, sight).items():
        if ahead > MOST_AHEAD:
            yield host, f"{claim}, which no home has come to"
        elif host not in believed:
            yield host, f"{claim}, {ahead} ahead of this home; if that may be, say --believe {host}"


def unknown_servers(sight: Sight) -> Mapping[HostName, tuple[HostName, ...]]:
    """By agent the servers that it listens to and that nobody knows how to reach."""
    asked = sight.surveys.keys() | sight.failures.keys()
    found: dict[HostName, set[HostName]] = {}
    for agent, server, _ in sight.trusted():
        if server not in asked:
            found.setdefault(agent, set()).add(server)
    return {agent: tuple(sorted(servers)) for agent, servers in sorted(found.items())}


def _is_stranger(agent: HostName) -> str:
    return (
        f"{agent} listens to it, and neither the ledger nor the inventory says where it is; "
        f"if {agent} makes that up, --waive {agent}"
    )


def far_ahead(recorded: Recorded, sight: Sight) -> Mapping[HostName, tuple[int, str]]:
    """The hosts that claim many more generations or epochs than a home has, with how many, and the claim."""
    found: dict[HostName, tuple[int, str]] = {}
    for host, survey in sight.surveys.items():
        generation = survey.fence[0] if survey.fence is not None else 0
        epoch = survey.bundle.position.epoch if survey.bundle is not None else 0
        ahead = max(generation - recorded.generation, epoch - recorded.position.epoch)
        if ahead > FEW_AHEAD:
            found[host] = (ahead, f"it claims generation {generation} and epoch {epoch}")
    return found


def without(sight: Sight, waived: Collection[HostName]) -> Sight:
    """What was seen, without the hosts that are waived."""
    return Sight(
        surveys={host: survey for host, survey in sight.surveys.items() if host not in waived},
        wholes={host: whole for host, whole in sight.wholes.items() if host not in waived},
        endpoints=sight.endpoints,
        failures=sight.failures,
        ended=sight.ended,
    )


def waiver_cost(recorded: Recorded, host: HostName) -> str:
    """What it means to restore a home without having asked a host."""
    costs: list[str] = []
    if host in recorded.agents or host not in recorded.servers:
        costs.append("keys that it alone remembers as ended may come back")
    if host in recorded.servers or host not in recorded.agents:
        costs.append("its agents stop believing it if it has a key that was made since the backup")
    return ", and ".join(costs)


def stranded(recorded: Recorded, sight: Sight, met: HostsMet) -> tuple[Stranded, ...]:
    """The edges that hold now and would not any more; ``met`` is what would be taken over."""
    names: dict[SpkiDigest, CredentialId] = {
        credential.public.spki_digest: credential.id
        for credential in recorded.credentials.values()
        if credential.public is not None
    }
    names |= {found.public.spki_digest: found.id for found in met.found}
    over: Mapping[CredentialId, str] = {
        **{c.id: f"its key is {c.ended}" for c in recorded.credentials.values() if c.compromised},
        **met.ended,
    }
    in_use = {server: held.key for server, held in sight.in_use().items()}
    broken: dict[tuple[HostName, HostName], str] = {}
    for agent, server, key in sight.trusted():
        if server in sight.surveys and in_use.get(server) != key:
            continue
        credential = names.get(key)
        if credential is None:
            broken[agent, server] = "its key is not this fleet's"
        elif credential in over:
            broken[agent, server] = over[credential]
    own = {issuer.key for issuer in recorded.own_issuers()}
    for agent, survey in sight.surveys.items():
        for one in survey.bundle.delegations if survey.bundle is not None else ():
            if one.server in sight.surveys and one.issuer not in own:
                broken[agent, one.server] = "the issuer that vouches for it was made since the backup"
    return tuple(
        Stranded(agent=agent, server=server, why=why) for (agent, server), why in sorted(broken.items())
    )
