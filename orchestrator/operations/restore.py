"""restore: go on with a home that hosts do not follow, from a backup or as it is, at a person's word (S9).

Hosts are asked twice: first, so that a person can be told what would happen, then behind the fence of the new
generation. From that visit on a host refuses the controller of before, so what it tells then stays true.
Nothing else is changed on hosts: the next apply gives every agent a bundle of the new epoch.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from orchestrator.errors import RefusedError, UsageError
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.material import Random, SpkiDigest
from orchestrator.operations.asking import Answers, survey
from orchestrator.ports import Ports
from orchestrator.rotation.evolve import supposing
from orchestrator.rotation.hearsay import Accusation, Claim, accusations, claims, refuse_accusations
from orchestrator.rotation.home_events import HomeRestored, HostsMet
from orchestrator.rotation.meeting import meet
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.restoring import Stranded, far_ahead, open_generation, stranded, without
from orchestrator.rotation.sight import Ending, Sight
from orchestrator.rotation.supposed import supposed_sight
from orchestrator.rotation.visits import CredentialId, Fence


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What restoring the home does to the fleet.

    Attributes:
        opening: the generation, the epoch, and the hosts that nobody waits for.
        meeting: what the ledger takes over from the hosts.
        stranded: edges that hold now, and will not until a handover mends them.
        accused: the keys that have leaked by the word of hosts alone, though others rely on them.
        claimed: the keys that agents alone tell of.
        asked: how many hosts answered.
    """

    opening: HomeRestored
    meeting: HostsMet
    stranded: tuple[Stranded, ...]
    accused: tuple[Accusation, ...]
    claimed: tuple[Claim, ...]
    asked: int

    @property
    def superseded(self) -> tuple[HostName, ...]:
        """Agents with an issuer that the home does not know, and nobody has said that its own is good."""
        return () if self.opening.sure_of_issuer else self.meeting.superseded


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asks for.

    Attributes:
        waive: hosts that are not waited for.
        believe: hosts whose word is believed that a key has leaked, or that the home is far behind.
        disbelieve: hosts whose word that a key has leaked is not; it counts as removed. Agents among them
            lose the keys that nobody else tells of.
        sure_of_issuer: whether the home's issuer has not leaked, even if it was replaced since.
        endpoints: how the inventory reaches hosts; the ledger's word for those it does not name.
        backup: the id of the backup that the home was made of; empty: it was there.
        kept: the credentials whose private keys came with it.
        ended: keys that a later ledger calls ended, where there is one to ask.
    """

    waive: Collection[HostName] = ()
    believe: Collection[HostName] = ()
    disbelieve: Collection[HostName] = ()
    sure_of_issuer: bool = False
    endpoints: Mapping[HostName, Endpoint] = field(default_factory=dict)
    backup: str = ""
    kept: Collection[CredentialId] | None = None
    ended: Mapping[SpkiDigest, Ending] = field(default_factory=dict)


def foresee(recorded: Recorded, answers: Answers, request: Request, *, random: Random) -> Effects:
    """What restoring would do, from what hosts told; changes nothing.

    Raises:
        RefusedError: hosts did not answer, and were not waived.
        UsageError: a waived host is not waited for.
    """
    return _effects(recorded, _sight(recorded, answers, request), request, random)


def compared_with(recorded: Recorded, later: Recorded, request: Request, *, random: Random) -> Effects:
    """What restoring would do if every host held what a later ledger says."""
    return _effects(recorded, supposed_sight(later), request, random)


def _effects(recorded: Recorded, sight: Sight, request: Request, random: Random) -> Effects:
    opening = open_generation(
        recorded,
        sight,
        waived=request.waive,
        believed=request.believe,
        backup=request.backup,
        kept=request.kept,
    )
    seen = without(sight, request.waive)
    accused = accusations(recorded, seen)
    claimed = claims(recorded, seen)
    _refuse_unknown(
        request,
        telling={one.host for one in accused} | set(far_ahead(recorded, sight)),
        claiming={agent for one in claimed for agent in one.agents},
    )
    true = [one for one in accused if one.host in request.believe]
    meeting = meet(
        replace(recorded, unmet=opening.unmet),
        seen,
        random=random,
        believed=true,
        doubted=request.disbelieve,
    )
    return Effects(
        opening=replace(opening, sure_of_issuer=request.sure_of_issuer),
        meeting=meeting,
        stranded=stranded(recorded, seen, meeting),
        accused=accused,
        claimed=claimed,
        asked=len(seen.surveys),
    )


def restore(ports: Ports, request: Request, *, agree: Callable[[Effects], bool]) -> Effects | None:
    """Ask, tell what would happen, and open the generation.

    Args:
        ports: the outside things; the ledger is the home's that is to go on.
        request: what was asked for.
        agree: is shown what would happen.

    Returns:
        None: it was not agreed to, and nothing was changed.

    Raises:
        RefusedError: hosts did not answer, and were not waived; one has met a later generation meanwhile; or
            some say that a key has leaked that others rely on, and are neither believed nor disbelieved.
        UsageError: a host is named that says nothing of the kind.
        ConflictError: another controller writes this ledger.
    """
    recorded = ports.ledger.read()
    endpoints = asked_hosts(recorded, request)
    answers = survey(ports.fleet, endpoints.values(), ports.progress, whole=True)
    effects = foresee(recorded, answers, request, random=ports.entropy)
    refuse_accusations(effects.accused, believed=request.believe, doubted=request.disbelieve)
    if not agree(effects):
        return None
    now = ports.clock.now()
    # Opening a generation stops every earlier home, so a fault is to show before.
    supposing(recorded, [effects.opening, effects.meeting, answers.event()], at=now)
    recorded = ports.ledger.append([effects.opening], onto=recorded, at=now)
    fence = Fence(generation=recorded.generation, counter=recorded.version, head=recorded.head)
    asked = [endpoint for host, endpoint in endpoints.items() if host not in request.waive]
    again = survey(
        ports.fleet, asked, ports.progress, dict.fromkeys((e.host for e in asked), fence), whole=True
    )
    if again.failures:
        host, why = next(iter(again.failures.items()))
        raise RefusedError(
            f"{host} answered at first and does not any more: {why}",
            hint="Run the command again; what other hosts were told does no harm.",
        )
    sight = without(_sight(recorded, again, request), request.waive)
    true = [one for one in effects.accused if one.host in request.believe]
    meeting = meet(recorded, sight, random=ports.entropy, believed=true, doubted=request.disbelieve)
    now = ports.clock.now()
    met = supposing(recorded, [meeting], at=now)
    ports.ledger.append([meeting, again.usable(met).event()], onto=recorded, at=now)
    return replace(
        effects,
        meeting=meeting,
        stranded=stranded(recorded, sight, meeting),
        claimed=claims(recorded, sight),
    )


def asked_hosts(recorded: Recorded, request: Request) -> dict[HostName, Endpoint]:
    """Whom to ask: hosts that the ledger knows and has not given up, and every host of the inventory."""
    known = {
        host: endpoint
        for host, endpoint in recorded.endpoints.items()
        if not recorded.given_up(host) and (host in recorded.servers or host in recorded.agents)
    }
    desired = {host: e for one in recorded.playbooks.values() for host, e in one.endpoints.items()}
    return dict(sorted({**desired, **known, **request.endpoints}.items()))


def _refuse_unknown(
    request: Request, *, telling: Collection[HostName], claiming: Collection[HostName]
) -> None:
    believed, doubted = {*request.believe} - {*telling}, {*request.disbelieve} - {*telling, *claiming}
    if unknown := sorted(believed | doubted):
        raise UsageError(
            f"{unknown[0]} says nothing that a person has to believe or not",
            hint="Leave its --believe or --disbelieve out.",
        )
    if both := sorted({*request.believe} & {*request.disbelieve}):
        raise UsageError(f"{both[0]} is either believed or not", hint="Say one of the two.")


def _sight(recorded: Recorded, answers: Answers, request: Request) -> Sight:
    return Sight(
        surveys=answers.surveys,
        wholes=answers.wholes,
        endpoints=asked_hosts(recorded, request),
        failures=answers.failures,
        ended=request.ended,
    )
