"""Every file of ``cryptography-vectors`` is read, or refused with one error of a known kind, in words.

The suite has keys and certificates of every kind and damage that the authors of ``cryptography`` have met,
and a thousand files that are something else. ``vectors.yml`` has what each file is refused for, as it is with
the version named there; of another version only the rule is held.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cryptography_vectors
import pytest
import yaml

from orchestrator.errors import KeyMaterialError, PasswordNeededError, WrongPasswordError
from orchestrator.keys.formats.contents import Contents
from orchestrator.keys.formats.intake import examine, take
from orchestrator.keys.formats.reading import read
from orchestrator.keys.secret import Secret

FOLDER = Path(cryptography_vectors.__file__).parent
FROZEN: Mapping[str, Any] = yaml.safe_load(
    (Path(__file__).parent / "vectors.yml").read_text(encoding="utf-8")
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SHARDS = 4
LONGEST_WORDS = 400


def _files() -> list[Path]:
    return sorted(path for path in FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _read(data: bytes) -> Contents:
    """Read with the first of the suite's passwords that opens it."""
    try:
        return read(data)
    except PasswordNeededError:
        for password in FROZEN["passwords"]:
            try:
                return read(data, Secret(password.encode()))
            except WrongPasswordError:
                continue
        raise


def _told(error: KeyMaterialError) -> str:
    """The kind of an error, which has to be one of the particular ones, and in a sentence."""
    assert type(error) is not KeyMaterialError
    assert 0 < len(error.message) < LONGEST_WORDS
    return type(error).__name__


def _outcomes(paths: list[Path]) -> Iterator[tuple[str, str]]:
    """What became of each file: the error's kind, or the format and what taking it in came to."""
    for path in paths:
        name = str(path.relative_to(FOLDER))
        try:
            contents = _read(path.read_bytes())
        except KeyMaterialError as error:
            yield name, _told(error)
            continue
        assert len(contents), name
        for fault in examine(contents, at=NOW):
            assert _told(fault), name
        try:
            take([contents], at=NOW)
        except KeyMaterialError as error:
            yield name, f"loaded {contents.format}, {_told(error)}"
        else:
            yield name, f"loaded {contents.format}, taken"


def test_the_vectors_are_those_of_the_library() -> None:
    assert version("cryptography-vectors") == version("cryptography")


@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_vector_loads_or_is_refused_in_words(shard: int) -> None:
    found = dict(_outcomes(_files()[shard::SHARDS]))
    counts = Counter(found.values())
    print("\n".join(f"{number:5} {outcome}" for outcome, number in sorted(counts.items())))  # noqa: T201 - for pytest -rP
    if version("cryptography-vectors") != FROZEN["version"]:
        return
    expected = {name: outcome for outcome, names in FROZEN["refused"].items() for name in names}
    told = {name: outcome for name, outcome in found.items() if outcome in FROZEN["refused"]}
    assert told == {name: outcome for name, outcome in expected.items() if name in found}
    assert counts == FROZEN["counts"][shard]
