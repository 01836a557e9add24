"""What ending a key, taking a host out or setting it up again is about to do, as the ledger tells."""

from collections.abc import Iterable

from orchestrator.inventory.model import HostName
from orchestrator.operations.queries import CONTROLLER, Half, Holding, holders, holdings
from orchestrator.operations.reinstall import known_host, only_there
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.lookup import credential_named, ending_of, name_of
from orchestrator.rotation.recorded import Recorded
from orchestrator.views.screen import Grid, grid
from orchestrator.views.text import count, named, packed


def before_ending(recorded: Recorded, *, key: str, lost: bool) -> tuple[str | Grid, ...]:
    """Who holds the key, and what becomes of them.

    Raises:
        UsageError: no such key, or several.
    """
    credential = credential_named(recorded, key)
    found = holders(recorded, credential.id)
    servers = sorted({h.host for h in found if h.half is Half.PRIVATE and h.host != CONTROLLER})
    body: list[str | Grid] = [f"{name_of(credential)} is {credential.state}"]
    if said := ending_of(credential):
        body.append(f"it is {said}")
    by_place: dict[tuple[str, str], list[str]] = {}
    for holding in found:
        by_place.setdefault((holding.half, holding.standing), []).append(holding.host)
    if by_place:
        rows = [(half, where, packed(hosts)) for (half, where), hosts in by_place.items()]
        body.append(grid(("half", "where", "hosts"), rows))
    who = named(tuple(servers)) if servers else "no server"
    if lost:
        body.append(f"it is lost: {who} will get another key, and every agent has to prove that one first")
        return tuple(body)
    if credential.state is KeyState.REMOVED:
        body += [
            "it leaked before it was removed: that is written down, for lists of revoked certificates",
            "no host is visited but agents that would believe it by its certificate: they will refuse it",
        ]
        return tuple(body)
    body += [
        f"it leaked: {who} will leave it for another key without waiting for any agent, and cannot go back",
        "agents that answer will forget it; the others go on trusting it, and nothing newer, until they do",
    ]
    return tuple(body)


def before_removal(recorded: Recorded, *, name: str, give_up: bool) -> tuple[str | Grid, ...]:
    """What the host holds, and what becomes of it.

    Raises:
        UsageError: the ledger does not know the host.
    """
    host = HostName(name)
    found = holdings(recorded, name)
    rows = [(name_of(holding.credential), holding.half, holding.standing) for holding in found]
    body: list[str | Grid] = [
        grid((f"{host} holds", "half", "where"), rows) if rows else f"{host} holds no key"
    ]
    sharing = _sharing(recorded, host, found)
    others = (
        [f"servers that share a key with it will get another: {named(tuple(sharing))}"] if sharing else []
    )
    if not give_up:
        return (*body, "all of it will be erased on the host, and a last visit looks whether it is", *others)
    contact = recorded.contacts.get(host)
    answers = contact is not None and contact.seen is not None and contact.failing_since is None
    reachable = f"it answered when it was last asked: keyrelay remove {host} would erase all of it there"
    private = sorted({name_of(holding.credential) for holding in found if holding.half is Half.PRIVATE})
    ends = [f"nobody knows who has its private keys, so they end as leaked: {', '.join(private)}"]
    return (
        *body,
        "it will not be asked: what it holds stays in the ledger as the last thing known of it",
        *(ends if private else []),
        *([reachable] if answers else []),
        *others,
    )


def before_reinstall(recorded: Recorded, *, name: str) -> tuple[str | Grid, ...]:
    """What the host gets back, and what is lost.

    Raises:
        UsageError: no playbook that was applied has the host.
    """
    host = known_host(recorded, name)
    record, lost = recorded.servers.get(host), tuple(only_there(recorded, host))
    body: list[str | Grid] = []
    if record is not None and record.target is not None:
        target = recorded.credentials[record.target]
        agents = count(len(recorded.listeners().get(host, ())), "agent")
        if target.id in {one.id for one in lost}:
            body.append(
                f"{name_of(target)} was on {host} alone and is lost: {host} gets another one, once its "
                f"{agents} have proven that; until then none of them believes it"
            )
        else:
            body.append(f"{host} gets {name_of(target)} back, which its {agents} trust")
    if host in recorded.agents:
        body.append(f"{host} gets its trust bundle again, and proves it")
    return (*body, "what is due or has drifted on other hosts of its playbooks is mended in the same run")


def _sharing(recorded: Recorded, host: HostName, found: Iterable[Holding]) -> list[HostName]:
    """The other servers that may sign with a key that the host has."""
    private = {holding.credential.id for holding in found if holding.half is Half.PRIVATE}
    return sorted(s for s in recorded.servers if s != host and recorded.may_hold(s) & private)
