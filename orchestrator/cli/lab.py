"""``keyrelay lab``: a fleet of real sshds on this machine, to try keyrelay on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.context import Context
from orchestrator.cli.options import AsJson
from orchestrator.errors import UsageError
from orchestrator.lab import MAX_HOSTS, HostOptions, Lab, LabHost, host_names
from orchestrator.views.screen import Answer, Grid, grid
from orchestrator.views.text import count

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
    sudo: Annotated[
        str | None,
        typer.Option(
            metavar="USER", help="Log in to every host as this account, which becomes root by sudo; as root."
        ),
    ] = None,
    busybox: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST", help="Give this host busybox and openssl, and nothing else; repeatable."
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The port of all hosts; a free one by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start real sshds on loopback addresses, one a host (beyond 64, one for 16), and DIR/inventory.yml."""
    lab = Lab.up(
        directory, servers=servers, agents=agents, sites=sites, port=port, jump_sites=jump_sites,
        options=_kinds(host_names(servers=servers, agents=agents), sudo, busybox or ()),
    )  # fmt: skip
    body: tuple[str, ...]
    if lab.started_now:
        body = (
            f"The lab is up: {lab.size}; {count(len(lab.started_now), 'host')} started.",
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
    all_of_them = count(len(lab.hosts + lab.jump_hosts), "host")
    were = "was" if len(ended) == 1 else "were"
    body = f"The lab is down: {len(ended)} of {all_of_them} {were} running."
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


def _kinds(names: Sequence[str], sudo: str | None, busybox: Sequence[str]) -> dict[str, HostOptions]:
    if sudo is None:
        return {name: HostOptions(busybox=True) for name in busybox}
    if busybox:
        raise UsageError("a host with busybox alone has no sudo", hint="leave out --sudo, or --busybox")
    return dict.fromkeys(names, HostOptions(user=sudo, variables={"ansible_become": True}))


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
