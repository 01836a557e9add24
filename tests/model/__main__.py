"""``make model``: everything explored, and every seeded fault found; two processes side by side.

``make model-long`` explores what takes longer: ``--further``.
"""

import sys
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from time import monotonic

from tests.model.configurations import EVERYTHING, FURTHER
from tests.model.mutant import Mutant
from tests.model.mutants import MUTANTS
from tests.model.search import Found, search, show, show_trace

PROCESSES = 2
LISTS = {"": EVERYTHING, "--further": FURTHER}
"""What is explored, by how it is asked for."""


def explore(asked: str, number: int) -> Found:
    """What is found in one of the configurations of a list."""
    return search(LISTS[asked][number])


def hunt() -> list[Found]:
    """What is found of each seeded fault."""
    return [search(mutant.configuration, seeded=mutant.seeded) for mutant in MUTANTS]


def told(mutant: Mutant, found: Found) -> Iterator[str]:
    """How a seeded fault was found, or that it was not."""
    caught = mutant.is_caught(found)
    where = f"{found.states} states of {found.name}"
    yield f"{'found ' if caught else 'MISSED'}  it {mutant.name}  ({where})"
    for violation in found.violations:
        yield from show_trace(violation)


def main(asked: str) -> int:
    """Explores, prints, and returns 1 where anything is not as it should be."""
    began = monotonic()
    with ProcessPoolExecutor(max_workers=PROCESSES) as pool:
        hunted = pool.submit(hunt)
        searches: list[Future[Found]] = [pool.submit(explore, asked, n) for n in range(len(LISTS[asked]))]
        explored = [future.result() for future in searches]
        for found in explored:
            sys.stdout.write(show(found) + "\n")
        mutated = hunted.result()
    took_s = monotonic() - began
    sys.stdout.write("\nFaults put into the engine, each with the shortest way to the invariant it breaks:\n")
    for mutant, found in zip(MUTANTS, mutated, strict=True):
        sys.stdout.write("\n".join(told(mutant, found)) + "\n")
    missed = [mutant for mutant, found in zip(MUTANTS, mutated, strict=True) if not mutant.is_caught(found)]
    wrong = [found for found in explored if found.violations or found.stuck or not found.complete]
    states, moves = sum(f.states for f in explored), sum(f.moves for f in explored)
    sys.stdout.write(
        f"\n{states} states, {moves} transitions, {sum(len(f.violations) for f in explored)} violations, "
        f"{sum(f.stuck for f in explored)} states that do not end; "
        f"{len(MUTANTS) - len(missed)} of {len(MUTANTS)} seeded faults found; "
        f"{took_s:.0f} s in {PROCESSES} processes\n"
    )
    return 1 if missed or wrong else 0


if __name__ == "__main__":
    sys.exit(main("".join(sys.argv[1:])))
