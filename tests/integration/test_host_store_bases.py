"""Two hosts on one machine, each with a base of its own, that come to the same store at the same time."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.policy.stores import Holds, Java, Nss, PemFiles, Pkcs12, Store
from orchestrator.rotation.reports import Failed, Outcome, Refused
from orchestrator.rotation.visits import Disarm, Erase, Order
from tests.integration.program import SHELLS_BY_TURNS, Machine
from tests.integration.stores import (
    NEW,
    OLD,
    PRIVATE,
    Credential,
    between,
    server_manifest,
    states,
    surveyed,
    with_tools,
)


def free_file(app: Path) -> Store:
    return PemFiles(key=f"{app}/tls.key", access=PRIVATE)


def missing_password(app: Path) -> Store:
    return Pkcs12(file=f"{app}/server.p12", password_file=f"{app}/new", alias="app", access=PRIVATE)


def missing_keystore(app: Path) -> Store:
    return Java(
        keystore=f"{app}/keystore",
        password_file=f"{app}/pass",
        alias="app",
        holds=Holds.CREDENTIAL,
        access=PRIVATE,
    )


def free_entry(app: Path) -> Store:
    return Nss(database=f"{app}/nss", name="app", holds=Holds.CREDENTIAL)


KINDS = (free_file, missing_password, missing_keystore, free_entry)


@pytest.fixture(params=SHELLS_BY_TURNS)
def first(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(base=tmp_path / "first", path=with_tools(tmp_path / "bin", request.param))


@pytest.fixture
def second(first: Machine, tmp_path: Path) -> Machine:
    return Machine(base=tmp_path / "second", path=first.path)


@contextmanager
def held(machine: Machine, folder: Path, order: Order) -> Iterator[Callable[[str], Outcome]]:
    """A visit that has looked at its stores, and begins to fill them once it is told to, with a command."""
    folder.mkdir()
    reached, go = folder / "reached", folder / "go"
    os.mkfifo(reached)
    os.mkfifo(go)
    waits = (
        f"[ -e {folder}/once ] || {{ echo >{folder}/once; echo >{reached}; read -r then <{go}; eval $then; }}"
    )
    waits = f'case "$0 $*" in */mv*server/stores) {waits} ;; esac'
    with ThreadPoolExecutor(max_workers=1) as pool:
        outcome = pool.submit(between(machine, folder / "shims", waits).run, order)
        reached.read_text()

        def go_on(command: str) -> Outcome:
            go.write_text(f"{command}\n")
            return outcome.result()

        yield go_on


def refuses_and_leaves(machine: Machine, mine: Credential, order: Order) -> None:
    """It takes nothing of another base's for its own, neither to fill it nor when its server leaves."""
    outcome = machine.run(order)
    assert isinstance(outcome, Refused)
    assert "is not keyrelay's" in outcome.reason
    machine.report(Disarm(credentials=(mine.id,), in_use=None), Erase(credentials=(mine.id,)))


def contents(app: Path) -> dict[str, bytes]:
    """What lies there, but what a visit under way has beside it."""
    files = (file for file in app.rglob("*") if file.is_file() and ".keyrelay" not in str(file))
    return {str(file.relative_to(app)): file.read_bytes() for file in files}


@pytest.mark.parametrize("mine", [NEW, OLD], ids=["another key", "the same key"])
@pytest.mark.parametrize("store", KINDS)
def test_of_two_bases_that_find_a_place_free_the_second_leaves_it_to_the_first(
    first: Machine,
    second: Machine,
    app: Path,
    tmp_path: Path,
    store: Callable[[Path], Store],
    mine: Credential,
) -> None:
    manifest = server_manifest(store(app))
    and_more = server_manifest(PemFiles(certificate=f"{app}/mine.crt", access=PRIVATE), store(app))
    first.report(OLD.stage)
    second.report(mine.stage)
    with held(second, tmp_path / "hold", mine.activate(and_more)) as go_on:
        first.report(OLD.activate(manifest))
        before = contents(app)
        outcome = go_on(":")

    assert isinstance(outcome, Failed)
    assert "was put there by somebody else during the visit" in outcome.reason
    assert outcome.reason.endswith("; no credential is in use, as before")
    assert contents(app) == before
    refuses_and_leaves(second, mine, mine.activate(and_more))
    assert contents(app) == before
    assert set(states(surveyed(first)[0]).values()) == {"intact"}
    assert not first.report(OLD.activate(manifest)).changed
    assert not list(app.glob(".keyrelay*"))


@pytest.mark.parametrize("mine", [NEW, OLD], ids=["another key", "the same key"])
@pytest.mark.parametrize("store", KINDS)
def test_a_base_whose_visit_was_killed_takes_nothing_for_its_own_that_another_put_there_since(
    first: Machine,
    second: Machine,
    app: Path,
    tmp_path: Path,
    store: Callable[[Path], Store],
    mine: Credential,
) -> None:
    manifest = server_manifest(store(app))
    first.report(OLD.stage)
    second.report(mine.stage)
    with held(second, tmp_path / "hold", mine.activate(manifest)) as go_on:
        go_on(f"read -r _ _ _ _ pid _ <{second.base}/lock/owner; kill -9 $pid; exit 1")
    first.report(OLD.activate(manifest))
    before = contents(app)

    refuses_and_leaves(second, mine, mine.activate(manifest))
    assert contents(app) == before
    assert not first.report(OLD.activate(manifest)).changed
    assert not list(app.glob(".keyrelay*"))
