"""What goes to a host in one exec, and what comes back: a ``Visit`` as bytes, the answer as an ``Outcome``.

The exec string is the constant ``BOOTSTRAP``. Standard input carries ``PROGRAM`` first and then the frames
that ``encode`` makes: lines of plain words, and counted bytes. Values are data there: none of them becomes
part of the program's text. ``docs/reference/host-protocol.md`` tells the grammar.
"""

import base64
import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import assert_never

from orchestrator.keys.material import Algorithm
from orchestrator.keys.secret import Secret
from orchestrator.remote.answers import ANSWER_LIMIT_BYTES, decode
from orchestrator.remote.program import BOOTSTRAP, PROGRAM
from orchestrator.rotation.observed import Tombstone
from orchestrator.rotation.visits import (
    PROOFS_A_VISIT,
    READING,
    Activate,
    Challenge,
    Check,
    Claim,
    Disarm,
    Erase,
    Fence,
    Generate,
    Hook,
    Order,
    Revert,
    Sign,
    Stage,
    Survey,
    Trust,
    Visit,
    Voucher,
)

__all__ = ["ANSWER_LIMIT_BYTES", "BOOTSTRAP", "decode", "encode", "time_needed"]

_PATIENCE = timedelta(seconds=60)
_RSA_SEARCH = timedelta(seconds=120)
"""For the primes of an RSA key: a second or so on a server, a minute on a small board with bad luck."""

_LOOK_AT_CERTIFICATE = timedelta(milliseconds=500)
"""Four runs of openssl: 30 ms on a server."""

_FILL_A_STORE = timedelta(seconds=30)
"""Java begins in a second and derives its keys slowly on purpose; a small board takes ten times that."""

_KILL_AFTER = timedelta(seconds=5)
_SPARE = timedelta(seconds=30)

_BY_LINES_BYTES = 4096
"""Up to here the shell's own ``read`` is quicker than starting ``dd``."""

_MARKER = re.compile(r"[0-9a-f]{32}")
_STORE = re.compile(r"^store ", re.MULTILINE)
_SIGNATURE = re.compile(r"([0-9a-f]{2}){1,512}")


def time_needed(visit: Visit) -> timedelta:
    """How long a visit may take on a host that works.

    The time limits of commands, twice where a server may go back; filling its stores; the search for each RSA
    key that is made there, a look at each certificate, and some for the rest.
    """
    commands = [command for order in visit.orders for command in _commands(order)]
    keys = [order.algorithm for order in visit.orders if isinstance(order, Generate)]
    making = keys.count(Algorithm.RSA_3072) * _RSA_SEARCH
    claims = [claim for order in visit.orders if isinstance(order, Trust | Check) for claim in order.claims]
    looking = sum(claim.voucher is not None for claim in claims) * _LOOK_AT_CERTIFICATE
    filling = sum(len(_STORE.findall(manifest)) for manifest in _manifests(visit)) * 2 * _FILL_A_STORE
    patience = _PATIENCE + making + looking + filling
    return sum((command.timeout + _KILL_AFTER for command in commands), start=patience)


def _manifests(visit: Visit) -> Iterator[str]:
    for order in visit.orders:
        if isinstance(order, Survey):
            yield from (order.server_stores, order.agent_stores)
        if isinstance(order, Activate | Revert | Trust):
            yield order.stores


def _commands(order: Order) -> Iterator[Hook]:
    """The commands that an order may run, as often as it may run them."""
    match order:
        case Activate() | Revert():
            yield from (command for command in (order.hook, order.prove) * 2 if command is not None)
        case Sign(prove=Hook() as command):
            yield from (command, command)
        case Trust():
            yield from order.hooks
        case _:
            pass


def encode(visit: Visit, *, marker: str, lease: timedelta | None = None) -> Secret:
    """All that is written to the standard input of ``BOOTSTRAP``; private keys may be in it.

    A list of claims gets a decoy at its end, a claim with a broken signature, and where certificates are to
    be believed another one, with a broken certificate; ``decode`` demands to see both refused.

    Args:
        visit: what to do.
        marker: 128 fresh random bits as 32 lowercase hexadecimal digits; the answer stands between them.
        lease: how long the host keeps its lock if it never comes to its end; a controller gives up
            earlier. By default ``time_needed`` and half a minute.

    Raises:
        ValueError: the visit is no visit: it changes something without a fence, has too many claims, or a
            value in it does not fit its line.
    """
    if not _MARKER.fullmatch(marker):
        raise ValueError("a marker is 32 lowercase hexadecimal digits")
    if sum(len(order.claims) for order in visit.orders if isinstance(order, Trust | Check)) > PROOFS_A_VISIT:
        raise ValueError(f"a visit has at most {PROOFS_A_VISIT} claims")
    seconds = max(1, math.ceil((lease or time_needed(visit) + _SPARE).total_seconds()))
    fence = f"{seconds} - - - *"
    if visit.fence is None and not all(isinstance(order, READING) for order in visit.orders):
        raise ValueError("a visit that changes something shows a fence")
    if visit.fence is not None:
        fence = f"{seconds} {_fence(visit.fence).replace('.', ' ')} {_remembered(visit.remembers)}"
    frames = [PROGRAM, _line(f"keyrelay 1 {marker}"), _line(visit.endpoint.base), _line(fence)]
    for order in visit.orders:
        frames += _order(order)
        frames.append(_line("."))
    frames.append(_line("end"))
    return Secret(b"".join(frames))


def _order(order: Order) -> Iterator[bytes]:
    match order:
        case Survey():
            manifests = [order.server_stores.encode(), order.agent_stores.encode()]
            how = "whole" if order.whole else "brief"
            yield _line(" ".join(("survey", how, *map(_count, manifests))))
            yield from manifests
        case Generate():
            yield _line(f"generate {order.credential} {order.algorithm} {len(order.names)}")
            yield from map(_line, order.names)
        case Stage():
            yield from _stage(order)
        case Trust():
            yield from _trust(order)
        case Activate():
            yield from _switch(order, goes_back=order.goes_back)
        case Revert():
            yield from _switch(order, goes_back=True)
        case Disarm():
            yield _line(f"disarm {order.in_use or '-'} {len(order.credentials)}")
            yield from map(_line, order.credentials)
        case Erase():
            yield _line(f"erase {len(order.credentials)} {len(order.ends)}")
            yield from map(_line, order.credentials)
            yield from map(_tombstone, order.ends)
        case Sign():
            yield _line(f"sign {_announced(order.prove)}")
            yield from _challenge(order.challenge)
            yield _text(order.prove)
        case Check():
            claims = _with_decoys(order.claims)
            yield _line(f"check {len(claims)}")
            yield from _claims(claims)
        case _:
            assert_never(order)


def _stage(order: Stage) -> Iterator[bytes]:
    certificate = order.certificate_pem.encode("ascii")
    chain = order.chain_pem.encode("ascii")
    key = None if order.private_key is None else order.private_key.reveal()
    words = [
        order.credential,
        "- -" if key is None else f"{len(key)}b {_digest(key)}",
        f"{_count(certificate)} {_digest(certificate)}",
        f"{_count(chain)} {_digest(chain)}",
    ]
    yield _line(f"stage {' '.join(words)}")
    yield from _challenge(order.challenge)
    yield key or b""
    yield certificate
    yield chain


def _trust(order: Trust) -> Iterator[bytes]:
    files = order.bundle.files()
    names = [name.removeprefix("keys/").removesuffix(".pem") for name in files if name.startswith("keys/")]
    issuers = {
        name.removeprefix("issuers/").removesuffix(".pem"): data
        for name, data in files.items()
        if name.startswith("issuers/")
    }
    content = [files.get(name, b"") for name in ("edges", "trust.jwks", "trust.pem", "delegations", "denied")]
    content.append(b"".join(issuers.values()))
    claims = _with_decoys(order.claims)
    position = order.bundle.position
    stores = order.stores.encode()
    words = [position.epoch, position.sequence, order.bundle.digest, *map(_count, content)]
    words += [len(names), len(issuers), len(claims), len(order.ends), _count(stores), len(order.hooks)]
    yield _line(f"trust {' '.join(map(str, words))}")
    yield from content
    yield from map(_line, names)
    yield from map(_line, issuers)
    yield from _claims(claims)
    yield from map(_tombstone, order.ends)
    yield stores
    for hook in order.hooks:
        yield _line(_announced(hook))
        yield _text(hook)


def _tombstone(ended: Tombstone) -> bytes:
    return _line(f"{ended.key} {ended.how} {ended.until}")


def _fence(fence: Fence) -> str:
    return f"{fence.generation}.{fence.counter}.{fence.head or '-'}"


def _remembered(fences: tuple[Fence, ...] | None) -> str:
    """The fence that the host is to remember: ``*`` for any, ``-`` for none."""
    if fences is None:
        return "*"
    return _fence(fences[0]) if fences else "-"


def _switch(order: Activate | Revert, *, goes_back: bool) -> Iterator[bytes]:
    failing = "back" if goes_back else "stay"
    stores = order.stores.encode()
    commands = f"{_announced(order.hook)} {_announced(order.prove)}"
    yield _line(f"{order.kind} {order.credential} {commands} {failing} {_count(stores)}")
    yield from _challenge(order.challenge)
    yield _text(order.hook)
    yield _text(order.prove)
    yield stores


def _announced(command: Hook | None) -> str:
    """The size of a command and its time limit in seconds."""
    if command is None:
        return "- 0"
    return f"{_count(_text(command))} {math.ceil(command.timeout.total_seconds())}"


def _text(command: Hook | None) -> bytes:
    return b"" if command is None else command.command.encode() + b"\n"


def _challenge(challenge: Challenge) -> Iterator[bytes]:
    yield _line(challenge.fleet)
    yield _line(challenge.server)
    yield _line(challenge.nonce)


def _claims(claims: tuple[Claim, ...]) -> Iterator[bytes]:
    for claim in claims:
        yield from _challenge(claim.challenge)
        yield _line(claim.key)
        yield _line("".join(f"\\0{byte:03o}" for byte in bytes.fromhex(claim.signature)))
        if claim.voucher is None:
            yield _line("-")
            continue
        certificate = claim.voucher.certificate_pem.encode("ascii")
        yield _line(f"{claim.voucher.issuer} {_count(certificate)}")
        yield certificate


def _with_decoys(claims: tuple[Claim, ...]) -> tuple[Claim, ...]:
    if not claims:
        return ()
    if not all(_SIGNATURE.fullmatch(claim.signature) for claim in claims):
        raise ValueError("a claim's signature is 1 to 512 bytes in lowercase hexadecimal")
    first = claims[0]
    # The last byte belongs to S of ed25519, to s of ECDSA and to the one number of RSA: the encoding stays
    # sound, the signature breaks.
    broken = f"{first.signature[:-2]}{int(first.signature[-2:], 16) ^ 1:02x}"
    forged = next((replace(c, voucher=_broken(c.voucher)) for c in claims if c.voucher is not None), None)
    return (*claims, replace(first, signature=broken), *((forged,) if forged is not None else ()))


def _broken(voucher: Voucher) -> Voucher:
    """The same with the last byte of the issuer's signature changed; its encoding stays sound."""
    begin, *body, end = voucher.certificate_pem.splitlines()
    der = base64.b64decode("".join(body))
    text = base64.b64encode(der[:-1] + bytes([der[-1] ^ 1])).decode("ascii")
    lines = (text[at : at + 64] for at in range(0, len(text), 64))
    return replace(voucher, certificate_pem="\n".join([begin, *lines, end, ""]))


def _count(data: bytes) -> str:
    """How ``data`` is announced: ``<n>l`` for lines that the shell reads itself, else ``<n>b``."""
    if 0 < len(data) <= _BY_LINES_BYTES and data.endswith(b"\n") and b"\0" not in data:
        lines = data.count(b"\n")
        return f"{lines}l"
    return f"{len(data)}b"


def _line(text: str) -> bytes:
    if not text or "\n" in text or "\0" in text:
        raise ValueError(f"{text!r} does not fit a line")
    return text.encode() + b"\n"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
