"""Whether hosts are the ones that the ledger knows, and the ledger the one that hosts know."""

from collections.abc import Mapping

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.policy.desired import Desired
from orchestrator.rotation.observed import HostSurvey
from orchestrator.rotation.recorded import Recorded


def refuse_newer_hosts(recorded: Recorded, surveys: Mapping[HostName, HostSurvey]) -> None:
    """Refuse to go on where a host has followed a later ledger: this one is old, or not its own (S8, S9).

    Raises:
        RefusedError: names the host, and where both stand.
    """
    here = (recorded.generation, recorded.version)
    for host, survey in sorted(surveys.items()):
        newer = survey.fence is not None and survey.fence > here
        ahead = survey.bundle is not None and survey.bundle.position > recorded.position
        if newer or ahead:
            seen = survey.fence if newer else (survey.bundle.position if survey.bundle else None)
            raise RefusedError(
                f"{host} has followed a ledger that is newer than this one: it stands at {seen}, "
                f"this ledger at {here}, bundle {recorded.position}",
                hint="Another home manages this host, or this home is an old copy. Use the newest one.",
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
