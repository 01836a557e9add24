"""``keyrelay ca``: the fleet's root and issuer, and what they revoke."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import passphrases
from orchestrator.cli.agreement import ask_first
from orchestrator.cli.context import LOCAL_HOME, Context
from orchestrator.cli.exits import Code, leave
from orchestrator.cli.founding import found_home, refuse_taken
from orchestrator.cli.keyrings import found_token
from orchestrator.cli.machine import system_entropy
from orchestrator.cli.options import AsJson, PassphraseFile, RootPassphraseFile, Wait, Yes, duration, worded
from orchestrator.errors import UsageError
from orchestrator.operations.authority import renew_issuer, renew_root
from orchestrator.operations.crl import Lists, sign_lists, sign_root_list
from orchestrator.operations.found import Lifetimes
from orchestrator.operations.replace_issuer import rotate_issuer
from orchestrator.records.published_file import publish
from orchestrator.rotation.authority import authorities
from orchestrator.views.authority import crl_answer, renewed_answer, show_answer
from orchestrator.views.beginnings import init_answer
from orchestrator.views.replaced_issuer import before_rotation, rotated_answer

RootKey = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The root's sealed key, if it is not in the home.")
]

app = typer.Typer(name="ca", help="The fleet's root and issuer, and what they revoke.")


@app.callback()
def ca_() -> None:
    """The fleet's root and issuer, and what they revoke."""


@app.command()
def init(
    context: typer.Context,
    *,
    module: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A PKCS#11 library: the keys are kept in its token.")
    ] = None,
    token: Annotated[str, typer.Option(metavar="LABEL", help="The label of that token.")] = "",
    root_lifetime: Annotated[str, typer.Option(metavar="TIME", help="Of the root.")] = "7300d",
    issuer_lifetime: Annotated[str, typer.Option(metavar="TIME", help="Of the issuer.")] = "1825d",
    passphrase_file: PassphraseFile = None,
    root_passphrase_file: RootPassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Found a fleet with choices of your own: only the home, without examples."""
    here = Context.of(context)
    if (module is None) != (not token):
        raise UsageError("--module and --token go together: a library, and the label of a token")
    lifetimes = Lifetimes(
        root=duration(root_lifetime, "--root-lifetime"), issuer=duration(issuer_lifetime, "--issuer-lifetime")
    )
    home = here.chosen_home or LOCAL_HOME
    refuse_taken(home)
    vault, root = (
        passphrases.obtain_both(passphrase_file, root_passphrase_file)
        if module is None
        else (
            passphrases.obtain(passphrase_file, what="the vault", option="--passphrase-file", new=True),
            found_token(str(module.absolute()), token),
        )
    )
    fleet = found_home(
        home, passphrase=vault, root=root, clock=here.clock, pin_file=here.pin_file, lifetimes=lifetimes
    )
    here.screen.answer(init_answer(fleet, home.absolute(), written=(), kept=()), as_json=as_json)


@app.command()
def show(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Show root and issuer: until when they last, from when on they are due, and where their keys are."""
    here = Context.of(context)
    with here.ledger() as ledger:
        recorded = ledger.read()
    now = here.clock.now()
    answer = show_answer(
        recorded, authorities(recorded, now=now), where=here.key_places(recorded.token), now=now
    )
    here.screen.answer(answer, as_json=as_json)


@app.command()
def crl(
    context: typer.Context,
    *,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to publish it; else stdout.")
    ] = None,
    der: Annotated[bool, typer.Option("--der", help="Write DER, as RFC 5280 wants it for HTTP.")] = False,
    root: Annotated[bool, typer.Option("--root", help="The root's list, of issuers.")] = False,
    valid: Annotated[
        str, typer.Option(metavar="TIME", help="For how long it is current; 7d, or 365d with --root.")
    ] = "",
    passphrase_file: PassphraseFile = None,
    root_key: RootKey = None,
    root_passphrase_file: RootPassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Sign the lists of certificates that must not be relied on any more: each issuer's, or the root's."""
    here, current = Context.of(context), duration(valid or ("365d" if root else "7d"), "--valid")
    with here.opened(
        passphrase_file, root_file=root_key, root_passphrase_file=root_passphrase_file
    ) as opened:
        lists = (
            sign_root_list(opened.ledger, opened.keys, clock=here.clock, valid=current)
            if root
            else sign_lists(opened.ledger, opened.issuer, clock=here.clock, valid=current)
        )
    here.screen.answer(crl_answer(lists, _published(lists, output, der=der)), as_json=as_json)


@app.command()
def renew(
    context: typer.Context,
    *,
    root: Annotated[bool, typer.Option("--root", help="Renew the root instead of the issuer.")] = False,
    lifetime: Annotated[
        str, typer.Option(metavar="TIME", help="From now; 1825d for the issuer and 7300d for the root.")
    ] = "",
    root_key: RootKey = None,
    passphrase_file: PassphraseFile = None,
    root_passphrase_file: RootPassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Certify the issuer's key anew, with the root's; what it has certified stays valid."""
    here, renewing = Context.of(context), renew_root if root else renew_issuer
    life = duration(lifetime or ("7300d" if root else "1825d"), "--lifetime")
    with here.opened(
        passphrase_file, root_file=root_key, root_passphrase_file=root_passphrase_file
    ) as opened:
        renewed = renewing(
            opened.ledger, opened.keys, clock=here.clock, entropy=system_entropy, lifetime=life
        )
    here.screen.answer(renewed_answer(renewed), as_json=as_json)


@app.command()
def rotate(
    context: typer.Context,
    *,
    leaked: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Somebody else has the issuer's key: how that came.", callback=worded
        ),
    ] = None,
    yes: Yes = False,
    wait: Wait = "10m",
    passphrase_file: PassphraseFile = None,
    root_key: RootKey = None,
    root_passphrase_file: RootPassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Replace the issuer: servers get other keys, agents the new issuer, and the old one's key goes."""
    here, waiting = Context.of(context), duration(wait, "--wait")
    ask_first(here, "ca rotate", lambda recorded: before_rotation(recorded, leaked=leaked or ""), yes=yes)
    with here.ports(passphrase_file, root_file=root_key, root_passphrase_file=root_passphrase_file) as (
        ports,
        _,
    ):
        rotated = rotate_issuer(ports, leaked=leaked or "", wait=waiting)
    here.screen.answer(rotated_answer(rotated), as_json=as_json)
    leave(Code.DONE if rotated.complete else Code.PARTLY)


def _published(lists: Lists, output: Path | None, *, der: bool) -> tuple[Path, ...]:
    """Writes the lists: PEM into one file, DER into one for each issuer, named after it but for the first."""
    if output is None:
        return ()
    suffix = system_entropy(8).hex()
    if not der:
        publish(output, "".join(one.crl.pem for one in lists.signed).encode("ascii"), suffix=suffix)
        return (output,)
    first, *others = lists.signed
    files = {output: first} | {
        output.with_stem(f"{output.stem}-{one.by.public_key.spki_digest[:12]}"): one for one in others
    }
    for file, signed in files.items():
        publish(file, signed.crl.der, suffix=suffix)
    return tuple(files)
