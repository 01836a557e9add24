"""What is told of an openssl by its version line, and which plans are refused for it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import RefusedError
from orchestrator.inventory.endpoints import Become
from orchestrator.inventory.model import HostName
from orchestrator.keys.material import Algorithm
from orchestrator.policy.desired import Desired
from orchestrator.rotation.capabilities import algorithms_of, refuse_unable_hosts, unwritable_hosts
from orchestrator.rotation.observed import HostSurvey
from tests.fake_state import HostState, survey
from tests.world import AGENTS, SERVERS, desired

NEW = "OpenSSL 3.0.19 27 Jan 2026 (Library: OpenSSL 3.0.19 27 Jan 2026)"
OLD = "OpenSSL 1.1.1w  11 Sep 2023"
OLDER = "OpenSSL 1.0.2k-fips  26 Jan 2017"
LIBRE = "LibreSSL 3.8.2"
EVERY = frozenset(Algorithm)
WITHOUT_ED25519 = EVERY - {Algorithm.ED25519}


def surveys(**lines: str) -> dict[HostName, HostSurvey]:
    """Of all hosts of ``desired()``, those named with the version line given; ``_`` stands for ``-``."""
    said = {HostName(name.replace("_", "-")): line for name, line in lines.items()}
    return {host: survey(HostState(openssl=said.get(host, NEW))) for host in (*SERVERS, *AGENTS)}


def refusal(wanted: Desired, found: dict[HostName, HostSurvey]) -> RefusedError:
    with pytest.raises(RefusedError) as raised:
        refuse_unable_hosts(wanted, found)
    return raised.value


@pytest.mark.parametrize(
    ("line", "algorithms"),
    [
        (NEW, EVERY),
        ("OpenSSL 3.0.0-alpha17", EVERY),
        ("OpenSSL 3.5.0 8 Apr 2025 (Library: OpenSSL 3.5.0 8 Apr 2025)", EVERY),
        ("OpenSSL 4.0.0-dev  (Library: OpenSSL 4.0.0-dev )", EVERY),
        ("OpenSSL 10.1.0 1 Jan 2040", EVERY),
        (OLD, WITHOUT_ED25519),
        ("OpenSSL 1.1.1k  FIPS 25 Mar 2021", WITHOUT_ED25519),
        ("OpenSSL 1.1.1", WITHOUT_ED25519),
        ("OpenSSL 1.1.0l  10 Sep 2019", frozenset()),
        (OLDER, frozenset()),
        ("OpenSSL 0.9.8zh 14 Jan 2016", frozenset()),
        (LIBRE, frozenset()),
        ("BoringSSL", frozenset()),
        ("OpenSSL 1.1.1 (compatible; AWS-LC 1.34.2)", frozenset()),
        ("OpenSSL 3", frozenset()),
        ("OpenSSL 3.0.x", frozenset()),
        ("my OpenSSL 3.0.0", frozenset()),
        ("", frozenset()),
    ],
)
def test_a_version_line_tells_what_an_openssl_can_do(line: str, algorithms: frozenset[Algorithm]) -> None:
    assert algorithms_of(line) == algorithms


@given(st.text(max_size=200))
def test_any_line_from_a_host_is_taken(line: str) -> None:
    assert algorithms_of(line) <= EVERY


@given(st.tuples(*[st.integers(0, 9999)] * 3), st.tuples(*[st.integers(0, 9999)] * 3))
def test_a_later_openssl_can_do_all_that_an_earlier_one_can(
    one: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    earlier, later = sorted([one, other])
    lines = ["OpenSSL {}.{}.{}  1 Jan 2030".format(*version) for version in (earlier, later)]
    assert algorithms_of(lines[0]) <= algorithms_of(lines[1])


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_fleet_that_can_is_not_refused(algorithm: Algorithm) -> None:
    refuse_unable_hosts(desired(algorithm=algorithm), surveys())


@pytest.mark.parametrize("algorithm", sorted(WITHOUT_ED25519))
def test_an_older_openssl_is_refused_for_ed25519_alone(algorithm: Algorithm) -> None:
    refuse_unable_hosts(desired(algorithm=algorithm), surveys(agent_2=OLD))
    error = refusal(desired(), surveys(agent_2=OLD))
    assert error.message == (
        "1 host cannot sign or verify with ed25519, which needs OpenSSL 3.0.0 or later:"
        " agent-2 has OpenSSL 1.1.1w  11 Sep 2023"
    )
    assert error.hint == (
        "Use key.algorithm ecdsa-p256 or rsa-3072, which all hosts that answered can,"
        " or update openssl there to OpenSSL 3.0.0 or later."
    )


def test_another_program_of_that_name_is_refused_for_every_kind_of_key() -> None:
    for algorithm in Algorithm:
        error = refusal(desired(algorithm=algorithm), surveys(server_1=LIBRE, agent_3=OLDER))
        assert "agent-3 has OpenSSL 1.0.2k-fips" in error.message
        assert "server-1 has LibreSSL 3.8.2" in error.message
        assert error.hint.startswith("Update openssl there to OpenSSL ")
        assert "LibreSSL too, are not supported" in error.hint


def test_of_many_hosts_the_first_are_named_and_the_rest_counted() -> None:
    old = {host.replace("-", "_"): OLD for host in (*SERVERS, *AGENTS)}
    error = refusal(desired(), surveys(**old))
    assert error.message.startswith("6 hosts cannot sign or verify with ed25519")
    assert error.message.count(" has OpenSSL 1.1.1w") == 5
    assert error.message.endswith("and 1 more")


def test_what_a_host_says_of_itself_is_shown_in_part_only() -> None:
    error = refusal(desired(), surveys(agent_1="x" * 5000))
    assert len(error.message) < 300


def test_a_host_without_openssl_or_without_an_answer_is_left_to_its_visit() -> None:
    found = surveys(agent_1="")
    del found[AGENTS[1]]
    refuse_unable_hosts(desired(), found)


def test_a_host_of_another_playbook_is_not_asked_for_anything() -> None:
    wanted = desired()
    others = {host: where for host, where in wanted.endpoints.items() if host != AGENTS[2]}
    refuse_unable_hosts(replace(wanted, endpoints=others), surveys(agent_3=LIBRE))


def test_hosts_on_which_the_login_may_not_write_are_named_before_they_are_visited() -> None:
    found = surveys()
    everyone = (*SERVERS, *AGENTS)
    assert unwritable_hosts(desired(), found, everyone) == ""
    for host in everyone:
        found[host] = replace(found[host], user="ops", unwritable="/etc/")
    assert unwritable_hosts(desired(), found, ()) == ""
    one = unwritable_hosts(desired(), found, {SERVERS[0]})
    assert one.startswith(f"the login may not write on {SERVERS[0]} (ops in /etc/); set ansible_become: true")
    assert f"and {len(everyone) - 5} more" in unwritable_hosts(desired(), found, everyone)


def test_who_becomes_another_user_already_is_not_told_to() -> None:
    wanted = desired()
    become = Become(user="ops")
    endpoints = {host: replace(endpoint, become=become) for host, endpoint in wanted.endpoints.items()}
    found = {host: replace(one, unwritable="/etc/") for host, one in surveys().items()}
    assert "ansible_become" not in unwritable_hosts(replace(wanted, endpoints=endpoints), found, SERVERS)
