"""What the tests of keys share: the real openssl, a made-up fleet's authority, and randomness by seed."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from orchestrator.keys.authority import Authority, make_issuer, make_root
from orchestrator.keys.certificate import Certificate
from orchestrator.keys.material import Algorithm, KeyPair, Random, generate
from tests.authorities import certified_by, new_signer

OpenSSL = Callable[..., subprocess.CompletedProcess[bytes]]


def seeded(seed: bytes) -> Random:
    """Bytes that follow from ``seed`` alone, other ones at each call."""
    calls = count()

    def random(size: int) -> bytes:
        return hashlib.shake_256(seed + next(calls).to_bytes(8, "big")).digest(size)

    return random


@pytest.fixture
def random() -> Random:
    return seeded(b"keys of no fleet")


@pytest.fixture
def now() -> datetime:
    return datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def openssl(tmp_path: Path) -> OpenSSL:
    """Runs the real ``openssl`` in ``tmp_path``; the caller looks at the exit code."""
    program = shutil.which("openssl")
    assert program is not None, "the tests of keys need openssl 3.0 or later"

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [program, *arguments], input=stdin, capture_output=True, cwd=tmp_path, check=False
        )

    return run


@pytest.fixture
def pair(random: Random) -> KeyPair:
    return generate(Algorithm.ED25519, random=random)


@pytest.fixture
def leaf(issuer: Authority, pair: KeyPair, now: datetime, random: Random) -> Certificate:
    return certified_by(issuer, pair, now, random, "web-01", "web_01.example.org")


@pytest.fixture
def root(now: datetime, random: Random) -> Authority:
    return make_root(
        new_signer(random), fleet="orchard", now=now, lifetime=timedelta(days=3650), random=random
    )


@pytest.fixture
def issuer(root: Authority, now: datetime, random: Random) -> Authority:
    return make_issuer(
        root, new_signer(random), fleet="orchard", now=now, lifetime=timedelta(days=730), random=random
    )
