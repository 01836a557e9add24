"""A plan, before and after it was carried out."""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.errors import KeyrelayError
from orchestrator.inventory.model import HostName
from orchestrator.operations.apply import Applied
from orchestrator.operations.planning import Prepared
from orchestrator.rotation.plan import Plan
from orchestrator.rotation.stranding import Stranding
from orchestrator.views.results import changed, changes_data, how_it_ended, result_data, standstill
from orchestrator.views.screen import Answer, Grid, grid
from orchestrator.views.text import broken, count, packed, shortened

SHOWN_DIGEST = 16
"""So many digits of a digest are told to be typed; 64 bits."""


def plan_answer(prepared: Prepared) -> Answer:
    """What would change on which host, and why."""
    return Answer(data=plan_data(prepared), body=(*_plan_body(prepared), f"plan: {prepared.plan.digest}"))


def how_to_apply(found: Sequence[Prepared], command: str) -> str:
    """How to agree to exactly these plans; ``command`` is the command line without that."""
    digests = " ".join(f"--plan {one.plan.digest[:SHOWN_DIGEST]}" for one in found)
    return f"to do exactly this: {command} {digests}"


def does_anything(prepared: Prepared) -> bool:
    """Whether there is anything to agree to, and it would not be refused."""
    plan = prepared.plan
    return not plan.strandings and (plan.start is not None or plan.resumes is not None)


def plan_data(prepared: Prepared) -> dict[str, Any]:
    """A plan as JSON."""
    plan = prepared.plan
    return {
        "playbook": plan.desired.playbook,
        "policy": plan.desired.policy,
        "digest": plan.digest,
        "starts": plan.start is not None,
        "resumes": plan.resumes,
        "renews_only": plan.renews_only,
        "reasons": list(plan.reasons),
        "warnings": list(plan.warnings),
        "strandings": [
            {"server": one.server, "agents": list(one.agents), "kept": one.kept} for one in plan.strandings
        ],
        "changes": changes_data(plan.changes),
        "unreachable": _unreachable(prepared.answers.failures),
    }


def applied_answer(applied: Applied) -> Answer:
    """What came of a plan: what changed, what is blocked, and what it waits for."""
    result = applied.result
    return Answer(
        data={
            "playbook": applied.prepared.plan.desired.playbook,
            "result": _word(applied),
            "complete": applied.complete,
            **result_data(result),
            "unreachable": _unreachable(applied.unreachable),
            "plan": plan_data(applied.prepared),
        },
        body=tuple(_applied_body(applied)),
    )


def gist(ended: Applied | KeyrelayError) -> tuple[object, ...]:
    """How a run ended, as far as it would be news to who has seen the one before."""
    if isinstance(ended, KeyrelayError):
        return (ended.message,)
    result = ended.result
    told: tuple[object, ...] = (
        ended.prepared.plan.desired.playbook,
        _word(ended),
        *sorted(ended.unreachable),
    )
    if result is None:
        return told
    waits = sorted({(wait.server, wait.step) for wait in result.waits})
    blocks = [(block.host, block.since, block.servers) for block in result.blocks]
    return (*told, *waits, *blocks, result.paused, result.recorded.version if result.changed else 0)


def _word(applied: Applied) -> str:
    if not applied.agreed:
        return "declined"
    if applied.result is None:
        return "nothing-to-do" if applied.complete else "unreachable"
    if applied.result.stopped:
        return "stopped"
    if applied.result.paused:
        return "paused"
    if applied.result.blocks or applied.unreachable:
        return "blocked"
    return "waiting" if applied.result.waits else "done"


def _plan_body(prepared: Prepared) -> list[str | Grid]:
    plan = prepared.plan
    body: list[str | Grid] = [_heading(plan)]
    if not plan.changes and plan.start is not None and not plan.renews_only:
        body.append("no host changes; what the playbook says now holds once it is applied")
    elif not plan.changes:
        body.append(_nothing(prepared))
    else:
        if plan.resumes is not None:
            body.append(f"goes on with rollout {plan.resumes}")
        alike: dict[tuple[str, tuple[str, ...], str], list[str]] = {}
        for change in plan.changes:
            unasked = change.host in prepared.answers.failures
            why = f"{change.why}, as far as is known: it could not be asked" if unasked else change.why
            alike.setdefault((change.role, change.what, why), []).append(change.host)
        rows = [(packed(hosts), role, broken(what), why) for (role, what, why), hosts in alike.items()]
        body.append(grid(("hosts", "role", "what", "why"), rows))
    body += _exports(prepared)
    body += [f"warning: {warning}" for warning in plan.warnings]
    body += [_stranding(one) for one in plan.strandings]
    body += _failures(prepared.answers.failures)
    return body


def _exports(prepared: Prepared) -> list[str | Grid]:
    """Whether keys may be exported, where the playbook says something else of that than before."""
    desired = prepared.plan.desired
    before = prepared.recorded.playbooks.get(desired.playbook)
    if before is None or before.key.exportable == desired.key.exportable:
        return []
    if desired.key.exportable:
        return ["keys that are made once this is applied may be exported"]
    return ["from when this is applied no key may be exported (exportable: no); until then they may"]


def _stranding(one: Stranding) -> str:
    agents = count(len(one.agents), "agent")
    kept = ", and the vault still has it" if one.kept else ""
    return (
        f"warning: {one.server} lost the key that {agents} trust{kept}: apply refuses to make a new one; "
        f"see keyrelay reinstall {one.server}"
    )


def _heading(plan: Plan) -> str:
    desired = plan.desired
    servers, agents = count(len(desired.servers()), "server"), count(len(desired.agents()), "agent")
    return f"{desired.playbook}: policy {desired.policy}, {servers}, {agents}"


def _nothing(prepared: Prepared) -> str:
    asked = len(prepared.answers.surveys)
    if not prepared.answers.failures:
        return f"nothing to do: {count(asked, 'host')} {'is' if asked == 1 else 'are'} as the playbook asks"
    return f"nothing to do on the {count(asked, 'host')} that answered"


def _applied_body(applied: Applied) -> list[str | Grid]:
    prepared, result = applied.prepared, applied.result
    body: list[str | Grid] = [_heading(prepared.plan)]
    if not applied.agreed:
        return [*body, "nothing was changed"]
    if result is None:
        return [*body, _nothing(prepared), *_failures(applied.unreachable)]
    body += changed(prepared.plan.changes, result)
    body += standstill(result)
    blocking = {block.host for block in result.blocks}
    body += _failures({host: why for host, why in applied.unreachable.items() if host not in blocking})
    if result.complete and not applied.complete:
        return [*body, "not finished: the next apply or watch goes on from here"]
    return [*body, how_it_ended(result)]


def _failures(failures: Mapping[HostName, str]) -> list[str | Grid]:
    rows = [(host, shortened(reason)) for host, reason in sorted(failures.items())]
    return [grid(("unreachable", "reason"), rows)] if rows else []


def _unreachable(failures: Mapping[HostName, str]) -> list[dict[str, str]]:
    return [{"host": host, "reason": reason} for host, reason in sorted(failures.items())]
