"""Whether hosts are the ones that the ledger knows, and the ledger the one that hosts know.

A controller whose ledger is not the one that a host follows stops for good: only a person can say which of
two copies is the true one, and does so by opening another generation (``restoring.py``).
"""

from collections.abc import Mapping

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.policy.desired import Desired
from orchestrator.rotation.observed import HostSurvey
from orchestrator.rotation.recorded import Recorded

NAMED = 4

STOPPED = "If this home is the one to go on with, open a generation for it: keyrelay restore --this-home"


def refuse_newer_hosts(recorded: Recorded, surveys: Mapping[HostName, HostSurvey]) -> None:
    """Refuse to go on where a host has followed a later ledger: this one is old, or not its own (S8, S9).

    Raises:
        RefusedError: names the host, and where both stand.
    """
    for host, survey in sorted(surveys.items()):
        if reason := _newer(recorded, host, survey):
            raise RefusedError(
                reason, hint=f"Another home manages this host, or this home is an old copy. {STOPPED}"
            )


def refuse_stopped(recorded: Recorded) -> None:
    """Refuse to write anything for a fleet that follows another ledger.

    Raises:
        RefusedError: names the reason.
    """
    if recorded.stopped:
        raise RefusedError(f"this home has stopped for good: {recorded.stopped}", hint=STOPPED)


def refuse_superseded(recorded: Recorded) -> None:
    """Refuse to have agents trust an issuer again that was replaced since the backup, perhaps as leaked.

    Raises:
        RefusedError: names the agents.
    """
    if recorded.superseded:
        told = ", ".join(recorded.superseded[:NAMED])
        more = len(recorded.superseded) - NAMED
        raise RefusedError(
            "this home was restored from before its issuer was replaced, and agents would be given that one"
            f" again: {told}{f' and {more} more' if more > 0 else ''} trust another, which it does not know",
            hint="Unless you know that its key has not leaked: keyrelay ca rotate --leaked REASON. "
            "If you do: keyrelay restore --this-home --keep-issuer",
        )


def reason_to_stop(
    recorded: Recorded, surveys: Mapping[HostName, HostSurvey], heads: Mapping[int, str]
) -> str:
    """Why this ledger is not the one that hosts follow; empty: it is, as far as they tell.

    Args:
        recorded: the ledger.
        surveys: what hosts tell.
        heads: the digests of the entries whose numbers the hosts remember, as far as this ledger has them.
    """
    for host, survey in sorted(surveys.items()):
        if reason := _newer(recorded, host, survey):
            return reason
        same_generation = survey.fence is not None and survey.fence[0] == recorded.generation
        if survey.fence is None or not same_generation or not survey.head:
            continue
        if heads.get(survey.fence[1]) != survey.head:
            there, number = survey.head[:12], survey.fence[1]
            here = heads[number][:12] if number in heads else "missing"
            told = f"entry {number} is {there} there, {here} here"
            return f"{host} has followed another copy of this ledger: {told}"
    return ""


def _newer(recorded: Recorded, host: HostName, survey: HostSurvey) -> str:
    here = (recorded.generation, recorded.version)
    newer = survey.fence is not None and survey.fence > here
    ahead = survey.bundle is not None and survey.bundle.position > recorded.position
    if not newer and not ahead:
        return ""
    seen = survey.fence if newer else (survey.bundle.position if survey.bundle else None)
    return (
        f"{host} has followed a ledger that is newer than this one: it stands at {seen}, "
        f"this ledger at {here}, bundle {recorded.position}"
    )


def refuse_moved_hosts(desired: Desired, recorded: Recorded, surveys: Mapping[HostName, HostSurvey]) -> None:
    """Refuse to lose sight of keys where the inventory says that a host is elsewhere now (S3).

    A host whose address has changed is known again by what it holds. Another base is another place on the
    same host, where the keys in the old one would be forgotten.

    Args:
        desired: where hosts are now.
        recorded: where they were, and what they held there; the surveys not yet taken in.
        surveys: what they hold where they are now.

    Raises:
        RefusedError: names the host, both places, and what to do.
    """
    for host, now in sorted(desired.endpoints.items()):
        before = recorded.endpoints.get(host)
        if before is None or _place(before) == _place(now) or not _holds(recorded, host):
            continue
        survey = surveys.get(host)
        if now.base == before.base and (survey is None or _is_known_again(recorded, host, survey)):
            continue
        raise RefusedError(
            f"{host} holds keys at {_told(before)}; the inventory says {_told(now)}, where they are not",
            hint=f"Move it back, or take it out first: keyrelay remove {host}",
        )


def _place(endpoint: Endpoint) -> tuple[object, ...]:
    return (endpoint.address, endpoint.port, endpoint.base)


def _told(endpoint: Endpoint) -> str:
    port = f":{endpoint.port}" if endpoint.port is not None else ""
    return f"{endpoint.address}{port} in {endpoint.base}"


def _holds(recorded: Recorded, host: HostName) -> bool:
    return bool(recorded.may_hold(host)) or any(bundle.lines for bundle in recorded.bundles(host))


def _is_known_again(recorded: Recorded, host: HostName, survey: HostSurvey) -> bool:
    """Whether the host holds a key or the bundle that it should; a copy of either would be a leak."""
    held = {held.name for held in survey.credentials}
    if recorded.may_hold(host) & held:
        return True
    digests = {bundle.digest for bundle in recorded.bundles(host)}
    return survey.bundle is not None and survey.bundle.digest in digests
