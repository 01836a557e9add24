"""The fleet's own authority: what replacing the issuer is about to do, and what came of it."""

from orchestrator.keys.certificate import Certificate
from orchestrator.operations.replace_issuer import Rotated
from orchestrator.rotation.recorded import Recorded
from orchestrator.views.results import how_it_ended, result_data, standstill
from orchestrator.views.screen import Answer, Grid
from orchestrator.views.text import count, instant, stamp


def before_rotation(recorded: Recorded, *, leaked: str) -> tuple[str | Grid, ...]:
    """What becomes of servers and agents when the issuer is replaced."""
    targets = [(s, r.target) for s, r in recorded.servers.items() if r.target is not None]
    vouched = [server for server, target in targets if recorded.credentials[target].delegated]
    body: list[str | Grid] = [
        f"{count(len(targets), 'server')} will get another key, certified by a new issuer",
        f"{count(len(recorded.agents), 'agent')} will get the new issuer, and lose the old one at the end",
    ]
    if leaked and vouched:
        body.append(
            f"the key leaked: {count(len(vouched), 'server')} that agents believe by the issuer's word will "
            "not wait for any agent, and cannot go back"
        )
    return tuple(body)


def rotated_answer(rotated: Rotated) -> Answer:
    """What came of replacing the issuer."""
    body: list[str | Grid] = [f"issuer {_name(rotated.after)} certifies, in place of {_name(rotated.before)}"]
    for playbook, result in rotated.results:
        body += [*standstill(result), f"playbook {playbook}: {how_it_ended(result)}"]
    if rotated.gone:
        body.append(f"the key of {_name(rotated.before)} is destroyed")
    return Answer(
        data={
            "before": _data(rotated.before),
            "after": _data(rotated.after),
            "destroyed": rotated.gone,
            "complete": rotated.complete,
            "playbooks": [
                {"playbook": playbook, "complete": result.complete, **result_data(result)}
                for playbook, result in rotated.results
            ],
        },
        body=tuple(body),
    )


def _name(issuer: Certificate) -> str:
    return f"{issuer.public_key.thumbprint[:10]} (until {instant(issuer.not_after)})"


def _data(issuer: Certificate) -> dict[str, str | None]:
    return {
        "thumbprint": issuer.public_key.thumbprint,
        "not_before": stamp(issuer.not_before),
        "not_after": stamp(issuer.not_after),
    }
