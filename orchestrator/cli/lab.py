"""``keyrelay lab``: a fleet of real sshds on this machine, to try keyrelay on."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from orchestrator.lab import MAX_HOSTS, Lab

app = typer.Typer(
    name="lab", help="A fleet of real sshds on this machine, to try keyrelay on.", no_args_is_help=True
)

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The lab's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def up(
    directory: Directory,
    *,
    servers: Annotated[int, typer.Option(min=0, help="How many servers.")] = 3,
    agents: Annotated[int, typer.Option(min=0, help=f"How many agents; {MAX_HOSTS} hosts in all.")] = 8,
    sites: Annotated[
        int | None, typer.Option(min=1, help="How many sites; 2 unless there are fewer servers.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The port of all hosts; a free one by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start one sshd for each host, on loopback addresses, and write DIR/inventory.yml."""
    lab = Lab.up(directory, servers=servers, agents=agents, sites=sites, port=port)
    if as_json:
        typer.echo(json.dumps(_described(lab), indent=2))
    elif not lab.started_now:
        typer.echo(f"The lab was up already: {lab.size}. Nothing changed.")
    else:
        typer.echo(f"The lab is up: {lab.size}; {len(lab.started_now)} hosts started.")
        typer.echo(f"Inventory: {lab.inventory_file}\nLog in:    ssh -F {lab.ssh_config} {lab.hosts[0].name}")


@app.command()
def down(directory: Directory) -> None:
    """End the sshds that `up` started, and the sessions on them; files stay."""
    lab = Lab(directory)
    ended = lab.down()
    typer.echo(f"The lab is down: {len(ended)} of {len(lab.hosts)} hosts were running.")


@app.command()
def status(directory: Directory, *, as_json: AsJson = False) -> None:
    """Show for each host whether it runs, and where."""
    lab = Lab(directory)
    if as_json:
        typer.echo(json.dumps(_described(lab), indent=2))
        return
    table = Table("host", "state", "pid", "address", "port", "groups", box=None)
    for host in lab.hosts:
        state = "stopped" if host.pid is None else "running"
        table.add_row(
            host.name, state, str(host.pid or "-"), host.address, str(host.port), " ".join(host.groups)
        )
    Console().print(table)


def _described(lab: Lab) -> dict[str, Any]:
    """The lab as JSON: its files, and each host with its process."""
    return {
        "directory": str(lab.directory),
        "inventory": str(lab.inventory_file),
        "known_hosts": str(lab.known_hosts),
        "user": lab.user,
        "started": list(lab.started_now),
        "hosts": [
            {
                "name": host.name, "running": host.pid is not None, "pid": host.pid,
                "address": host.address, "port": host.port, "groups": list(host.groups),
                "base": str(host.base),
            }
            for host in lab.hosts
        ],
    }  # fmt: skip
