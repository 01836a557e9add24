"""How the visits of one round can end, and the words for what a round does."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations_with_replacement, product
from typing import Any

from orchestrator.inventory.model import HostName
from orchestrator.rotation.engine import Decision
from orchestrator.rotation.errands import Errand

AT_HOOK = -1
"""In place of how many orders were done: all of them, but for the hook that tells an agent's programs."""

Fates = Mapping[HostName, tuple[bool, int]]
"""For each host whether its answer is known, and how many of its orders were done."""


def fates_of(
    hosts: Sequence[HostName],
    lengths: Mapping[HostName, int],
    alike: Mapping[HostName, Any],
    *,
    answered: bool,
    hooked: Collection[HostName] = (),
) -> Iterator[Fates]:
    """For each host whether its answer is known, and how many of its orders were done.

    Args:
        hosts, lengths: who is visited, with how many orders.
        alike: what there is to tell of agents; of those alike, an end is chosen for how many, not for which.
        answered: those in which some answer is known, or could have been; otherwise the controller is
            killed before any is.
        hooked: the agents whose visit runs a hook: it may break off before that, or the hook may fail.
    """
    groups: dict[Any, list[HostName]] = {}
    for host in hosts:
        groups.setdefault(alike.get(host, host), []).append(host)
    choices = []
    for group in groups.values():
        most = lengths[group[0]]
        ends = [(False, done) for done in range(most + 1)]
        if answered:
            ends.append((True, most))
        if group[0] in hooked:
            ends += [(answered, AT_HOOK)]
        choices.append(
            [tuple(zip(group, c, strict=True)) for c in combinations_with_replacement(ends, len(group))]
        )
    for chosen in product(*choices):
        fates = {host: end for part in chosen for host, end in part}
        alone = len(hosts) == 1
        if not answered or alone or any(known for known, _ in fates.values()):
            yield fates


def lines_of(errand: Errand) -> Any:
    """What the agent of an errand is to trust or to prove."""
    bundle = errand.intent.bundle
    return bundle.lines if bundle is not None else tuple(p.line for p in errand.intent.proves)


def told(fates: Fates) -> tuple[tuple[str, bool, int], ...]:
    """The ends as a label has them."""
    return tuple((host, known, done) for host, (known, done) in fates.items())


def home_words(decision: Decision) -> tuple[str, ...]:
    """What a decision has done without a visit."""
    words = {
        "make": decision.make,
        "certify": decision.certify,
        "prolong": decision.prolong,
        "destroy": decision.destroy,
        "retire an issuer": decision.retire,
        "end": decision.ended,
        "halt": decision.halt,
        "waive": decision.waive,
    }
    return tuple(word for word, what in words.items() if what)
