"""The walk down ``lifecycle.STEPS``: at which row each server stands, and which wave waits for which server.

Nothing here decides anything: it says which row of the table does not hold yet. What many servers ask for is
worked out once for a view.
"""

from collections.abc import Mapping
from typing import assert_never

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation.lifecycle import STEPS, SUSPENDED, Step
from orchestrator.rotation.standing import View, once

Waves = tuple[PlaybookName, int]
"""The first so many waves of the rollout of a playbook that is under way."""


@once
def step_of(view: View, server: HostName) -> Step:
    """The first row of ``STEPS`` that does not hold for the server."""
    waits = (row for row in STEPS if row not in SUSPENDED or not view.is_urgent(server))
    return next((row for row in waits if not _holds(view, row, server)), Step.DONE)


@once
def undecided(view: View, waves: Waves) -> tuple[HostName, ...]:
    """The servers of these waves whose switch or soak others wait for."""
    playbook, count = waves
    return tuple(server for number in range(count) for server in _undecided(view, (playbook, number)))


def waves_ahead(view: View, server: HostName, step: Step) -> Waves:
    """The waves that a server waits for: at ``WAVE`` those before its own, at ``SOAK`` all."""
    playbook = view.recorded.servers[server].playbook
    own = _wave_numbers(view, playbook).get(server, 0)
    return playbook, own if step is Step.WAVE else len(view.waves(playbook))


def _holds(view: View, row: Step, server: HostName) -> bool:
    record = view.recorded.servers[server]
    target = view.recorded.credentials[record.target] if record.target is not None else None
    match row:
        case Step.EXPEL:
            return not view.to_expel(server)
        case Step.MAKE:
            return target is None or (target.public is not None and not target.compromised)
        case Step.CERTIFY:
            return target is None or server in target.certificates
        case Step.STAGE:
            return target is None or view.staged(server)
        case Step.PUBLISH:
            return not view.unproven(server)
        case Step.WAVE:
            return (
                target is None or view.active(server) or not undecided(view, waves_ahead(view, server, row))
            )
        case Step.ACTIVATE:
            return target is None or view.active(server)
        case Step.INSTALL:
            return target is None or view.manifests.is_filled(server)
        case Step.CONFIRM:
            return not view.unconfirmed(server)
        case Step.SOAK:
            return not (view.armed(server) or view.missing(server)) or _may_retire(view, server)
        case Step.DISARM:
            settled = server not in view.recorded.pending
            return not view.armed(server) and not view.missing(server) and settled
        case Step.WAIT:
            return not view.waits_until(server)
        case Step.DROP:
            return not any(view.trusting_outgoing(server))
        case Step.ERASE:
            return view.recorded.may_hold(server) - record.missing.keys() <= {record.target}
        case Step.DONE:
            return False
        case _:
            assert_never(row)


def _may_retire(view: View, server: HostName) -> bool:
    """Whether the switch and soak that the retirement of the server's old key waits for are over."""
    soaked = view.target(server) is None or _has_soaked(view, server)
    return soaked and not undecided(view, waves_ahead(view, server, Step.SOAK))


def _has_soaked(view: View, server: HostName) -> bool:
    return view.active(server) and view.soaked_at(server) <= view.now and not view.unconfirmed(server)


@once
def _wave_numbers(view: View, playbook: PlaybookName) -> Mapping[HostName, int]:
    return {server: n for n, wave in enumerate(view.waves(playbook)) for server in wave}


@once
def _undecided(view: View, wave: tuple[PlaybookName, int]) -> tuple[HostName, ...]:
    """The servers of a wave, by its number from 0, that the next one has to wait for.

    One that is held up does not keep the others, as long as some server of the wave has shown that the
    new key works.
    """
    playbook, number = wave
    members = [s for s in view.waves(playbook)[number] if s in view.recorded.servers]
    left = [s for s in members if not _has_soaked(view, s)]
    if len(left) < len(members):
        left = [s for s in left if view.active(s) or not _held_up(view, s)]
    return tuple(left)


def _held_up(view: View, server: HostName) -> bool:
    """Whether a server that has not switched was set back, or waits for a host.

    That host does not answer, or it is the server itself and cannot fill its stores.
    """
    if view.recorded.servers[server].set_back is not None or view.recorded.obstacles_to("server", server):
        return True
    hosts = (server, *view.unproven(server))
    contacts = (view.recorded.contacts.get(host) for host in hosts)
    return any(contact is not None and contact.failing_since is not None for contact in contacts)
