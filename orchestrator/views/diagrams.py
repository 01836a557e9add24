"""The tables of ``rotation/lifecycle.py`` as diagrams in Mermaid's language, for ``docs/generate.py``."""

from collections.abc import Iterator
from itertools import pairwise

from orchestrator.rotation.lifecycle import ENDED, KEY_MOVES, STEPS, SUSPENDED, Phase, Step

_SHAPES = {"server": ("[", "]"), "agents": ("([", "])"), "": ("{{", "}}")}
"""By whom a step visits."""


def handover_diagram() -> str:
    """The steps of one server from the top to the bottom, framed by phase."""
    return "\n".join(_handover())


def keys_diagram() -> str:
    """The states of a key and the moves between them."""
    return "\n".join(_keys())


def _handover() -> Iterator[str]:
    yield "flowchart TB"
    number = 0
    phase: Phase | None = None
    for step, rule in STEPS.items():
        if rule.phase is not phase:
            if phase is not None:
                yield "    end"
            phase, number = rule.phase, number + 1
            yield f'    subgraph phase{number}["{phase}"]'
        opens, closes = _SHAPES[rule.visits]
        yield f'        {_node(step)}{opens}"{step}: {rule.holds_when}"{closes}'
    yield "    end"
    for step, following in pairwise(STEPS):
        yield f"    {_node(step)} --> {_node(following)}"
    yield "    classDef suspended stroke-dasharray: 6 4"
    yield f"    class {','.join(_node(step) for step in STEPS if step in SUSPENDED)} suspended"


def _node(step: Step) -> str:
    """A name that is no word of Mermaid's."""
    return f"step_{step}"


def _keys() -> Iterator[str]:
    usual = [state for state, moves in KEY_MOVES.items() if moves.keys() >= ENDED]
    yield "stateDiagram-v2"
    yield '    state "a person has said nothing of it" as usual {'
    for state in usual:
        for after in KEY_MOVES[state]:
            if after not in ENDED:
                yield f"        {state} --> {after}"
    yield "    }"
    yield from (f"    usual --> {state}" for state in sorted(ENDED))
    for state, moves in KEY_MOVES.items():
        if state not in usual:
            yield from (f"    {state} --> {after}" for after in moves)
