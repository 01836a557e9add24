"""Keys that are not to be seen on servers, of many servers at once."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.inventory.model import HostName
from orchestrator.keys.bundle import Position
from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation.missing import without_unbelieved
from orchestrator.rotation.recorded import (
    AgentRecord,
    Credential,
    Installed,
    Recorded,
    ServerRecord,
    TrustLine,
)
from orchestrator.rotation.visits import CredentialId
from tests.fakes import NOON
from tests.world import AGENTS, SERVERS, World, desired

LATER = NOON + timedelta(hours=1)


@pytest.fixture(scope="module")
def credential() -> Credential:
    world = World()
    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:1]))
    (found,) = world.recorded.credentials.values()
    return found


def out_of_sight(credential: Credential, count: int, *, believed: int) -> Recorded:
    """So many servers that miss their keys; each of the first has an agent that knows its key."""
    keys = {HostName(f"server-{n}"): CredentialId(f"{n:032x}") for n in range(count)}

    def bundle(server: HostName) -> Installed:
        line = TrustLine(server=server, credential=keys[server])
        return Installed(position=Position(epoch=1, sequence=1), digest="d" * 64, content="c", lines=(line,))

    return Recorded(
        credentials={key: replace(credential, id=key) for key in keys.values()},
        servers={
            server: ServerRecord(playbook=PlaybookName("main"), target=key, missing={key: NOON})
            for server, key in keys.items()
        },
        agents={
            HostName(f"agent-of-{server}"): AgentRecord(installed=bundle(server))
            for server in list(keys)[:believed]
        },
    )


def test_of_many_servers_those_that_no_agent_believes_miss_their_keys_no_more(credential: Credential) -> None:
    after = without_unbelieved(out_of_sight(credential, 5, believed=3), LATER)
    missing = {server: bool(record.missing) for server, record in after.servers.items()}
    assert list(missing.values()) == [True, True, True, False, False]
    assert [len(record.cleared) for record in after.servers.values()] == [0, 0, 0, 1, 1]


def test_twice_as_many_servers_and_agents_cost_twice_as_much(
    credential: Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[HostName] = []
    bundles = Recorded.bundles

    def counted(recorded: Recorded, agent: HostName) -> Iterator[Installed]:
        asked.append(agent)
        return bundles(recorded, agent)

    monkeypatch.setattr(Recorded, "bundles", counted)

    def cost(count: int) -> int:
        asked.clear()
        without_unbelieved(out_of_sight(credential, count, believed=count), LATER)
        return len(asked)

    assert cost(40) <= 2 * cost(20)
