import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.remote.first_use import AcceptedKey, FirstUse, accepted_keys
from orchestrator.remote.known_hosts import KnownHosts, Standing, fingerprint

NOW = datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
KIND = "ssh-ed25519"


def blob(letter: str) -> bytes:
    return len(KIND).to_bytes(4, "big") + KIND.encode() + b"\0\0\0\x20" + letter.encode() * 32


@pytest.fixture
def first_use(tmp_path: Path) -> FirstUse:
    return FirstUse(tmp_path / "first-use", accept=True, now=lambda: NOW)


def test_what_is_accepted_is_known_from_then_on_with_time_and_name(
    first_use: FirstUse, tmp_path: Path
) -> None:
    assert first_use.about("Host", 2222).standing(blob("a")) is Standing.UNKNOWN
    assert first_use.accept("paris 1", "Host", 2222, kind=KIND, blob=blob("a"))

    expected = AcceptedKey(
        host="paris 1",
        name="[host]:2222",
        kind=KIND,
        fingerprint=fingerprint(blob("a")),
        at=NOW.replace(microsecond=0),
    )
    assert first_use.about("host", 2222).standing(blob("a")) is Standing.KNOWN
    assert first_use.accepted == accepted_keys(tmp_path / "first-use") == (expected,)


def test_a_host_that_became_known_meanwhile_is_held_to_that_key(first_use: FirstUse, tmp_path: Path) -> None:
    first_use.accept("one", "host", 22, kind=KIND, blob=blob("a"))

    assert first_use.accept("another name for it", "host", 22, kind=KIND, blob=blob("a"))
    assert not first_use.accept("one", "host", 22, kind=KIND, blob=blob("b"))
    assert len(accepted_keys(tmp_path / "first-use")) == 1


def test_a_name_cannot_smuggle_a_line_into_the_file(first_use: FirstUse, tmp_path: Path) -> None:
    first_use.accept("a\nb * ssh-ed25519 AAAA", "host", 22, kind=KIND, blob=blob("a"))

    assert len((tmp_path / "first-use").read_text().splitlines()) == 1


def test_lines_that_somebody_else_wrote_are_listed_too(tmp_path: Path) -> None:
    file = tmp_path / "first-use"
    encoded = base64.b64encode(blob("a")).decode()
    file.write_text(f"# mine\n\nhost {KIND} {encoded}\n@revoked other {KIND} {encoded}\n")

    assert [(key.host, key.at) for key in accepted_keys(file)] == [("host", None)]
    assert accepted_keys(tmp_path / "none") == ()


def test_the_file_of_another_run_is_read(first_use: FirstUse, tmp_path: Path) -> None:
    first_use.accept("one", "host", 22, kind=KIND, blob=blob("a"))
    later = FirstUse(tmp_path / "first-use", accept=False, now=lambda: NOW + timedelta(days=1))

    assert not later.accepts
    assert later.about("host", 22).standing(blob("b")) is Standing.CHANGED


def test_a_key_that_a_person_vouched_for_takes_the_place_of_the_known_one(
    first_use: FirstUse, tmp_path: Path
) -> None:
    known = KnownHosts.parse(f"host {KIND} {base64.b64encode(blob('a')).decode()}\n").about("host")
    first_use.replace("paris 1", known, kind=KIND, blob=blob("c"))

    later = FirstUse(tmp_path / "first-use", accept=False, now=lambda: NOW)
    for record in (first_use.about("host", 22), later.about("host", 22)):
        assert known.over_first_use(record).standing(blob("c")) is Standing.KNOWN
        assert known.over_first_use(record).standing(blob("a")) is Standing.REVOKED
    assert accepted_keys(tmp_path / "first-use") == ()


def test_a_key_believed_on_first_use_that_a_person_replaces_is_shown_no_longer(
    first_use: FirstUse, tmp_path: Path
) -> None:
    first_use.accept("one", "host", 22, kind=KIND, blob=blob("a"))
    for _ in range(2):
        first_use.replace("one", first_use.about("host", 22), kind=KIND, blob=blob("b"))
    assert accepted_keys(tmp_path / "first-use") == ()
    assert first_use.about("host", 22).standing(blob("b")) is Standing.KNOWN
    assert first_use.about("host", 22).standing(blob("a")) is Standing.REVOKED
