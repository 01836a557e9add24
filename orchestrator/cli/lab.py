"""``keyrelay lab``: a fleet of real sshds on this machine, to try keyrelay on."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.context import Context
from orchestrator.cli.options import AsJson
from orchestrator.lab import MAX_HOSTS, Lab, LabHost
from orchestrator.views.screen import Answer, Grid, grid

app = typer.Typer(
    name="lab", help="A fleet of real sshds on this machine, to try keyrelay on.", no_args_is_help=True
)

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The lab's folder.")]


@app.command()
def up(
    context: typer.Context,
    directory: Directory,
    *,
    servers: Annotated[int, typer.Option(min=0, help="How many servers.")] = 3,
    agents: Annotated[int, typer.Option(min=0, help=f"How many agents; {MAX_HOSTS} hosts in all.")] = 8,
    sites: Annotated[
        int | None,
        typer.Option(min=1, help="How many sites; without it 2, more beyond 64 hosts, no more than servers."),
    ] = None,
    jump_sites: Annotated[
        int, typer.Option(min=0, help="How many sites, the last ones, are each behind a jump host.")
    ] = 0,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The port of all hosts; a free one by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start real sshds on loopback addresses, one a host (beyond 64, one for 16), and DIR/inventory.yml."""
    lab = Lab.up(directory, servers=servers, agents=agents, sites=sites, port=port, jump_sites=jump_sites)
    body: tuple[str, ...]
    if lab.started_now:
        body = (
            f"The lab is up: {lab.size}; {len(lab.started_now)} hosts started.",
            f"Inventory: {lab.inventory_file}",
            f"Log in:    ssh -F {lab.ssh_config} {lab.hosts[0].name}",
        )
    else:
        body = (f"The lab was up already: {lab.size}. Nothing changed.",)
    Context.of(context).screen.answer(_described(lab, body), as_json=as_json)


@app.command()
def down(context: typer.Context, directory: Directory, *, as_json: AsJson = False) -> None:
    """End the sshds that `up` started, and the sessions on them; files stay."""
    lab = Lab(directory)
    ended = lab.down()
    body = f"The lab is down: {len(ended)} of {len(lab.hosts + lab.jump_hosts)} hosts were running."
    answer = Answer(data={"directory": str(lab.directory), "ended": list(ended)}, body=(body,))
    Context.of(context).screen.answer(answer, as_json=as_json)


@app.command()
def status(context: typer.Context, directory: Directory, *, as_json: AsJson = False) -> None:
    """Show for each host whether it runs, and where."""
    lab = Lab(directory)
    rows = [
        (
            host.name,
            "stopped" if host.pid is None else "running",
            host.pid or "-",
            host.address,
            host.port,
            " ".join(host.groups) or "jump host",
        )
        for host in lab.hosts + lab.jump_hosts
    ]
    answer = _described(lab, (grid(("host", "state", "pid", "address", "port", "groups"), rows),))
    Context.of(context).screen.answer(answer, as_json=as_json)


def _described(lab: Lab, body: tuple[str | Grid, ...]) -> Answer:
    """The lab: its files, and each host with its process."""
    return Answer(
        data={
            "directory": str(lab.directory),
            "inventory": str(lab.inventory_file),
            "known_hosts": str(lab.known_hosts),
            "user": lab.user,
            "started": list(lab.started_now),
            "hosts": [_shown(host) | {"base": str(host.base)} for host in lab.hosts],
            "jump_hosts": [_shown(host) for host in lab.jump_hosts],
        },
        body=body,
    )


def _shown(host: LabHost) -> dict[str, object]:
    return {
        "name": host.name, "running": host.pid is not None, "pid": host.pid, "address": host.address,
        "port": host.port, "groups": list(host.groups), "jumps": list(host.jumps),
    }  # fmt: skip
