"""Servers that could not fill their stores: they are left as they are, before anything is tried there.

What a survey told counts until the next one tells otherwise. A leaked key waits for no store: its server
goes on. An agent is visited all the same, and its servers wait for it as for any whose visit fails. So is
a server whose key is in use already: its other stores are mended.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from orchestrator.inventory.model import HostName
from orchestrator.rotation.lifecycle import Step
from orchestrator.rotation.observed import HostSurvey, Obstacle
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.standing import View

_BEFORE_SWITCHED = frozenset({Step.MAKE, Step.STAGE, Step.ACTIVATE})
"""The steps that lead to a switch, which is refused where a store cannot be filled."""


def held_back(view: View, steps: Mapping[HostName, Step]) -> Mapping[HostName, str]:
    """The servers among these that are not visited for the step where they stand, and why."""
    return {
        server: f"it {'; '.join(Obstacle.told(obstacles))}"
        for server, step in steps.items()
        if step in _BEFORE_SWITCHED and not view.is_urgent(server)
        if (obstacles := view.recorded.obstacles_to("server", server))
    }


def met(recorded: Recorded, host: HostName, survey: HostSurvey) -> Recorded:
    """The same fleet, with the obstacles that a survey of a host told of, and no others there."""
    if survey.obstacles == recorded.obstacles.get(host, ()):
        return recorded
    others = {name: known for name, known in recorded.obstacles.items() if name != host}
    told = {host: survey.obstacles} if survey.obstacles else {}
    return replace(recorded, obstacles=MappingProxyType({**others, **told}))
