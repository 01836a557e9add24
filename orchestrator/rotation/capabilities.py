"""What a host can do, and the plans that ask more of it: its ``openssl``, and the permissions of the login.

A host makes keys, signs and verifies with ``openssl``. Ed25519 has no digest of its own to be signed, and
only ``pkeyutl -rawin`` of OpenSSL 3.0 hands it a whole message; for the others 1.1.1 is enough, by
``dgst -sha256``. LibreSSL, BoringSSL and what else calls itself ``openssl`` is not supported: nothing
has shown that the host's program works with it.
"""

import re
from collections.abc import Collection, Mapping

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.keys.material import Algorithm
from orchestrator.policy.desired import Desired
from orchestrator.rotation.observed import HostSurvey

_OPENSSL = re.compile(
    r"OpenSSL ([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})[a-z]{0,2}(?:[-+ ]|$)(?!\(compatible)"
)
_SINCE = {
    Algorithm.ED25519: (3, 0, 0),
    Algorithm.ECDSA_P256: (1, 1, 1),
    Algorithm.RSA_3072: (1, 1, 1),
}
WRITE_ADVICE = (
    "set ansible_become: true to write as root, or keyrelay_base to a folder that the login user owns"
)
_NAMED = 5
_SHOWN_CHARACTERS = 60


def algorithms_of(version_line: str) -> frozenset[Algorithm]:
    """With which keys a host can do all of its work.

    Args:
        version_line: what ``openssl version`` prints there; empty: it has none.

    Returns:
        None at all for an older OpenSSL, another program, or no program.
    """
    found = _OPENSSL.match(version_line)
    if found is None:
        return frozenset()
    version = tuple(map(int, found.groups()))
    return frozenset(algorithm for algorithm, since in _SINCE.items() if version >= since)


def refuse_unable_hosts(desired: Desired, surveys: Mapping[HostName, HostSurvey]) -> None:
    """Refuses a playbook whose kind of key is beyond the openssl of a host that answered.

    A host without any openssl is left to its visit, which says so for this host alone: no other kind of
    key would help there, and the rest of the fleet can go on.

    Raises:
        RefusedError: names the first of the hosts and how many there are, what they have, and what can be
            done.
    """
    wanted = desired.key.algorithm
    lines = {host: surveys[host].openssl for host in desired.endpoints if host in surveys}
    able = {host: algorithms_of(line) for host, line in lines.items() if line}
    unable = sorted(host for host, algorithms in able.items() if wanted not in algorithms)
    if not unable:
        return
    told = [f"{host} has {lines[host][:_SHOWN_CHARACTERS]}" for host in unable[:_NAMED]]
    if len(unable) > _NAMED:
        told.append(f"and {len(unable) - _NAMED} more")
    subject = "1 host cannot" if len(unable) == 1 else f"{len(unable)} hosts cannot"
    raise RefusedError(
        f"{subject} sign or verify with {wanted}, which needs {_needed(wanted)}: {', '.join(told)}",
        hint=_hint(wanted, frozenset(Algorithm).intersection(*able.values())),
    )


def unwritable_hosts(
    desired: Desired, surveys: Mapping[HostName, HostSurvey], changed: Collection[HostName]
) -> str:
    """A warning of the hosts to be changed on which the login may not write; empty: there are none."""
    places = {host: surveys[host].unwritable for host in sorted(changed) if host in surveys}
    hosts = [host for host, place in places.items() if place]
    if not hosts:
        return ""
    told = [f"{host} ({surveys[host].user} in {places[host]})" for host in hosts[:_NAMED]]
    if len(hosts) > _NAMED:
        told.append(f"and {len(hosts) - _NAMED} more")
    logged_in = any(host in desired.endpoints and desired.endpoints[host].become is None for host in hosts)
    advice = f"; {WRITE_ADVICE}" if logged_in else ""
    return f"the login may not write on {', '.join(told)}{advice}"


def _hint(wanted: Algorithm, common: frozenset[Algorithm]) -> str:
    update = f"update openssl there to {_needed(wanted)}"
    if not common:
        return (
            f"{update[0].upper()}{update[1:]}. Other programs of that name, LibreSSL too, are not supported."
        )
    others = " or ".join(algorithm for algorithm in Algorithm if algorithm in common)
    return f"Use key.algorithm {others}, which all hosts that answered can, or {update}."


def _needed(algorithm: Algorithm) -> str:
    return f"OpenSSL {'.'.join(map(str, _SINCE[algorithm]))} or later"
