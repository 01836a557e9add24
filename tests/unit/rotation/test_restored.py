"""What a restored ledger takes over from hosts."""

from dataclasses import replace
from datetime import UTC, datetime

from orchestrator.rotation.belief import believed_until
from orchestrator.rotation.home_events import FoundCredential, HostsMet
from orchestrator.rotation.observed import LATEST
from orchestrator.rotation.restored import met
from orchestrator.rotation.visits import CredentialId
from tests.fakes import NOON
from tests.world import AGENTS, SERVERS, World, desired


def test_a_key_that_was_being_made_when_the_home_was_copied_is_known_to_be_in_its_vault() -> None:
    world = World()
    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:1]))
    (made,) = world.recorded.credentials.values()
    assert made.public is not None
    half_made = replace(made, public=None, certificates={}, chains={}, in_vault=True)
    copied = replace(world.recorded, credentials={made.id: half_made})
    found = FoundCredential(
        id=made.id,
        playbook=made.playbook,
        scope=made.scope,
        key=made.key,
        servers=made.servers,
        public=made.public,
        certificates=made.certificates,
        chains=made.chains,
        not_before=made.not_before,
        not_after=made.not_after,
    )
    told = HostsMet(
        hosts=SERVERS[:1], found=(found,), ended={}, armed={}, targets={}, servers={}, agents=(), endpoints={}
    )
    assert met(copied, told, NOON).credentials[made.id].in_vault


def test_a_ledger_that_has_an_end_beyond_the_calendar_already_is_read_with_one_within_it() -> None:
    world = World()
    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:1]))
    (made,) = world.recorded.credentials.values()
    assert made.public is not None
    last = datetime(9999, 12, 31, 23, 58, 20, tzinfo=UTC)
    found = FoundCredential(
        id=CredentialId("f" * 32),
        playbook=made.playbook,
        scope=made.scope,
        key=made.key,
        servers=made.servers,
        public=made.public,
        certificates={},
        chains={},
        not_before=None,
        not_after=last,
    )
    told = HostsMet(
        hosts=SERVERS[:1], found=(found,), ended={}, armed={}, targets={}, servers={}, agents=(), endpoints={}
    )
    adopted = met(world.recorded, told, NOON).credentials[found.id]
    assert adopted.expires == LATEST + adopted.grace
    assert believed_until(world.recorded, adopted) > LATEST
