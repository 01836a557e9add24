"""What a visit will put into a host's stores, and what it will take out of them.

A host fills what differs and takes away what its new manifest does not name any more. What is there now is
known from its survey; of a host that could not be asked, from the record.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import PlaybookName
from orchestrator.policy.stores import Holds, Store, covers, digest_of, holds, make_manifest, places
from orchestrator.rotation.filling import faults_of
from orchestrator.rotation.installing import Manifests
from orchestrator.rotation.observed import HeldStores, HostSurvey
from orchestrator.rotation.recorded import Filled, Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Refilling:
    """What hosts have in their stores before a plan.

    Attributes:
        recorded: the surveys already taken in.
        before: by what manifests they may have been filled: as the plays ask now, and as one did before.
        surveys: of the hosts that could be reached.
    """

    recorded: Recorded
    before: tuple[Manifests, ...]
    surveys: Mapping[HostName, HostSurvey]

    @classmethod
    def of(cls, recorded: Recorded, playbook: PlaybookName, surveys: Mapping[HostName, HostSurvey]) -> Self:
        """What is there, as far as a playbook that is being rolled out has not changed it yet."""
        running = recorded.running(playbook)
        asked = [recorded]
        if running is not None and running.before is not None:
            asked.append(recorded.asked_for(running.before))
        return cls(recorded=recorded, before=tuple(map(Manifests.of, asked)), surveys=surveys)

    def server(self, wanted: Manifests, server: HostName) -> Iterator[str]:
        """What is filled on a server, and what is emptied; nothing where all is as it should be."""
        if not wanted.is_filled(server):
            yield from self._changes(wanted, server, as_server=True)

    def agent(self, wanted: Manifests, agent: HostName) -> Iterator[str]:
        """The same for an agent."""
        if not wanted.is_stocked(agent):
            yield from self._changes(wanted, agent, as_server=False)

    def _changes(self, wanted: Manifests, host: HostName, *, as_server: bool) -> Iterator[str]:
        entries = wanted.entries(host, as_server=as_server)
        filled = (self.recorded.server_stores if as_server else self.recorded.agent_stores).get(host)
        known = self._known(host, filled, as_server=as_server)
        survey = self.surveys.get(host)
        held = None if survey is None else survey.server_stores if as_server else survey.agent_stores
        there = _there(known) if held is None else tuple(store.place for store in held.places)
        wrong = self._wrong(host, filled, held)
        stays = as_server and filled is not None and filled.credential == wanted.recorded.servers[host].target
        filling: set[str] = set()
        for store, entry in entries.items():
            fits = known.get(store) == entry and (stays or holds(store) is not Holds.CREDENTIAL)
            filling.update(
                place
                for place in places(store)
                if not fits or wrong is None or _is_wrong(store, place, wrong)
            )
        if filling:
            yield f"fills {', '.join(sorted(filling))}"
        leaving = [place for place in there if not any(covers(store, place) for store in entries)]
        if leaving:
            yield f"empties {', '.join(sorted(leaving))}"
        elif not entries:
            yield "empties its stores"
        elif not filling:
            yield "completes its stores"

    def _known(self, host: HostName, filled: Filled | None, *, as_server: bool) -> Mapping[Store, str]:
        """The entries by which its stores were filled last; none where that is not known."""
        if filled is None or (as_server and host not in self.recorded.servers):
            return {}
        asked = (manifests.entries(host, as_server=as_server) for manifests in self.before)
        return next((e for e in asked if digest_of(make_manifest(e.values())) == filled.manifest), {})

    def _wrong(
        self, host: HostName, filled: Filled | None, held: HeldStores | None
    ) -> tuple[str, ...] | None:
        """The places that do not hold what was put there; None: any of them."""
        if held is not None:
            return tuple(place for place, _ in faults_of(self.recorded, host, held, self.surveys[host]))
        return () if filled is not None and filled.intact else None


def _there(known: Iterable[Store]) -> tuple[str, ...]:
    return tuple(place for store in known for place in places(store))


def _is_wrong(store: Store, place: str, wrong: Iterable[str]) -> bool:
    """Whether a place of the store is wrong, or an anchor that has no place of its own in the playbook."""
    return any(one == place or (one not in places(store) and covers(store, one)) for one in wrong)
