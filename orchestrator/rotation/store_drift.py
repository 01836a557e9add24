"""How a host's stores differ from what it should have in them."""

from collections.abc import Iterator, Mapping, Sequence

from orchestrator.inventory.model import HostName
from orchestrator.keys.material import SpkiDigest
from orchestrator.policy.stores import digest_of
from orchestrator.rotation.drift_classes import Drift
from orchestrator.rotation.filling import faults_of
from orchestrator.rotation.lookup import name_of
from orchestrator.rotation.observed import HeldStores, HostSurvey, Obstacle, StoreState
from orchestrator.rotation.recorded import Credential
from orchestrator.rotation.standing import View
from orchestrator.rotation.visits import CredentialId


def store_drift(
    view: View, by_key: Mapping[SpkiDigest, Credential], host: HostName, survey: HostSurvey
) -> Iterator[tuple[Drift, str]]:
    """Every difference in the stores of one host, in each of its roles.

    Wrong owners and modes are among ``survey.problems``.

    Args:
        view: the record at one instant.
        by_key: every credential by its key.
        host: any host, also one that has left.
        survey: what it holds.
    """
    record = view.recorded.servers.get(host)
    as_server, as_agent = survey.server_stores, survey.agent_stores
    wanted = view.manifests.server(host) if record is not None else ""
    yield from _filled(as_server, wanted, view.manifests.places(host, as_server=True))
    if as_server is not None and as_server.digest and wanted and record is not None:
        known = view.recorded.credentials.get(CredentialId(as_server.credential or ""))
        if known is not None and known.id != record.target:
            if _was_its_own(known, host):
                yield Drift.PREVIOUS, f"its stores were filled with an earlier key, {name_of(known)}"
            else:
                yield Drift.MISMATCH, f"its stores were filled with {name_of(known)}, which was never its own"
    yield from _filled(as_agent, view.manifests.agent(host), view.manifests.places(host, as_server=False))
    for stores in filter(None, (as_server, as_agent)):
        for place, fault in faults_of(view.recorded, host, stores, survey):
            if fault:
                yield _of_place(by_key, host, stores, place)
    yield from ((Drift.OBSTRUCTED, f"it {clause}") for clause in Obstacle.told(survey.obstacles))


def _filled(held: HeldStores | None, wanted: str, places: Sequence[str]) -> Iterator[tuple[Drift, str]]:
    """By what manifest the stores of one role were filled last."""
    if held is None:
        if wanted:
            yield Drift.MISSING, f"nothing was put into {', '.join(places)}"
    elif not held.digest:
        yield Drift.MISMATCH, "its stores were not filled to the end"
    elif not wanted:
        there = ", ".join(store.place for store in held.places)
        yield Drift.PREVIOUS, f"what keyrelay put into {there} should not be there any more"
    elif held.digest != digest_of(wanted):
        yield Drift.PREVIOUS, "its stores were filled as the playbook asked before"


def _was_its_own(credential: Credential, server: HostName) -> bool:
    """Whether a server was ever certified for a key."""
    return server in credential.certificates or server in credential.superseded


def _of_place(
    by_key: Mapping[SpkiDigest, Credential], host: HostName, stores: HeldStores, place: str
) -> tuple[Drift, str]:
    """What is wrong with one of them, by what is in it."""
    store = next(store for store in stores.places if store.place == place)
    strange = [key for key in store.keys if key not in by_key]
    if store.state is StoreState.MISSING:
        return Drift.MISSING, f"what was put into {place} is gone"
    if store.state is StoreState.UNREADABLE:
        return Drift.MISMATCH, f"{place} cannot be read: wrong password, or damaged"
    if strange:
        return Drift.UNKNOWN_KEY, f"{place} holds key {strange[0][:12]}, which is not in the ledger"
    others = [by_key[key] for key in store.keys if by_key[key].id != stores.credential]
    if others:
        drift = Drift.PREVIOUS if _was_its_own(others[0], host) else Drift.MISMATCH
        return drift, f"{place} holds {name_of(others[0])}"
    return Drift.MISMATCH, f"{place} holds something else than was put there"
