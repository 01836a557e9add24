"""S1 to S10 as an observer of the hosts checks them.

The hosts are believed, the ledger is not: what it says is only ever compared with what they hold.
"""

from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import PlaybookName
from orchestrator.rotation.engine import Decision
from orchestrator.rotation.lifecycle import KeyState
from tests.fake_state import HostState
from tests.model.naming import edges_of
from tests.model.observer import edges, live, trusts
from tests.model.state import State


class BrokenError(AssertionError):
    """An invariant does not hold.

    Attributes:
        which: its name, S1 to S10, L1, L2, L4 or L5.
    """

    def __init__(self, which: str, why: str) -> None:
        super().__init__(f"{which}: {why}")
        self.which = which


def check_move(before: State, after: State) -> None:
    """What may not happen between two states.

    Raises:
        BrokenError: S2, S6 or S8 is broken.
    """
    for host, there in after.hosts.items():
        was = before.hosts[host]
        if was is there:
            continue
        if (
            was.bundle is not None
            and there.bundle is not None
            and there.bundle.position < was.bundle.position
        ):
            raise BrokenError("S2", f"the bundle of {host} went back")
        if was.bundle is not None and there.bundle is None:
            raise BrokenError("S2", f"the bundle of {host} is gone")
        if was.fence is not None and there.fence is not None and there.fence < was.fence:
            raise BrokenError("S8", f"{host} obeyed a controller that it had seen overtaken")
        if there.current != was.current and there.current is not None:
            _check_switch(before, after, host, was)


def _check_switch(before: State, after: State, server: HostName, was: HostState) -> None:
    """S6: a server switches only to what every agent trusts; unless it leaves a key that leaked."""
    using = live(after, server)
    if using is None or was.current in after.leaked:
        return
    arrives = before.late is not None and after.late is None
    if using in before.leaked and not arrives:
        raise BrokenError("S6", f"{server} switched to a key that leaked")
    if using in before.leaked:
        return  # nobody waits for such a key, and no agent is to trust it
    excused = before.meddled | before.waived
    if before.late is not None and arrives:
        excused |= before.late.blind
        excused |= {agent for agent, heard in edges(after.recorded) if (agent, heard) not in before.held}
    for agent, heard in edges(after.recorded):
        if heard == server and agent not in excused and not trusts(before, agent, server, using):
            raise BrokenError("S6", f"{server} switched before {agent} trusts its key")


def check_decision(state: State, playbook: PlaybookName, decision: Decision) -> None:
    """Where every host answers, a waived agent that has fallen behind is visited in the very next round.

    Raises:
        BrokenError: S10 is broken.
    """
    recorded = state.recorded
    behind = recorded.waived(playbook).keys() - recorded.elsewhere(playbook).keys()
    if not behind or decision.paused:
        return
    visited = {errand.host for errand in decision.errands}
    unsure = recorded.pending.keys() | state.meddled | state.adrift
    for agent, server in state.held:
        using = live(state, server)
        if agent not in behind - visited - unsure or server in unsure or using is None:
            continue
        sound = using not in state.leaked and (server, using) not in state.strange
        if sound and not trusts(state, agent, server, using):
            raise BrokenError("S10", f"{agent} was waived and answers again, and is not visited first")


def check_state(state: State) -> None:
    """What must hold in every state.

    Raises:
        BrokenError: names the invariant and the host.
    """
    _check_trust(state)
    _check_ledger(state)
    _check_keys(state)


def _check_trust(state: State) -> None:
    """S1, S7: agents trust what their servers sign with, and what is under way."""
    hot: dict[HostName, set[str]] = {}
    for server, credential in (*state.used, *(u for u, until in state.cooling.items() if until > state.now)):
        if credential not in state.leaked:
            hot.setdefault(server, set()).add(credential)
    for agent, server in state.held:
        if agent in state.waived | state.adrift or server in state.meddled:
            continue
        for credential in hot.get(server, ()):
            if not trusts(state, agent, server, credential):
                using = (server, credential) in state.used
                name = "S1" if using else "S7"
                what = "can sign with" if using else "may still have signed with"
                raise BrokenError(name, f"{agent} distrusts a key that {server} {what}")


def _check_ledger(state: State) -> None:
    """S3, S4, S5: the ledger knows every holder, and keys lie only where they belong, whole."""
    recorded = state.recorded
    for name in state.vault:
        known = recorded.credentials.get(name)  # type: ignore[call-overload]
        if known is None or not known.in_vault:
            raise BrokenError("S3", "the vault holds a key unknown to the ledger")
    by_key = {c.public.spki_digest: c.id for c in recorded.credentials.values() if c.public is not None}
    for host, there in state.hosts.items():
        if host in state.meddled:
            continue
        for name in (*there.credentials, *there.disarmed):
            if name not in recorded.may_hold(host):
                raise BrokenError("S3", f"{host} holds a private key unknown to the ledger")
            credential = recorded.credentials[name]  # type: ignore[index]
            if host not in {*credential.servers, *credential.certificates}:
                raise BrokenError("S4", f"{host} holds a private key of {credential.scope}")
        if there.bundle is None:
            continue
        listed = list(recorded.bundles(host))
        lines = {(line.server, line.credential or line.issuer) for bundle in listed for line in bundle.lines}
        used = [bundle for bundle in (there.bundle, there.heeded) if bundle is not None]
        for one in (one for bundle in used for one in bundle.delegations):
            if (one.server, one.issuer_key) not in lines:
                raise BrokenError("S3", f"{host} believes an issuer of {one.server} unknown to the ledger")
        for server, key in (edge for bundle in used for edge in edges_of(bundle)):
            if (server, by_key.get(key)) not in lines:
                which = "S10" if host in state.waived else "S3"
                raise BrokenError(which, f"{host} trusts a key of {server} unknown to the ledger")
        left = host not in recorded.agents and not edges_of(there.bundle)
        if not left and there.bundle.digest not in {bundle.digest for bundle in listed}:
            raise BrokenError("S5", f"the bundle of {host} is none that it was ever given")
        for trusted in there.bundle.keys:
            if trusted.signs:
                known = recorded.credentials[by_key[trusted.public.spki_digest]]
                if trusted.expires is None or trusted.expires > known.expires:
                    raise BrokenError("S10", f"{host} trusts a key without the end it has")


def _check_keys(state: State) -> None:
    """What the ledger concludes of keys is true of the hosts: removed is removed, retired is retired."""
    for credential in state.recorded.credentials.values():
        if credential.state not in {KeyState.REMOVED, KeyState.RETIRED}:
            continue
        for host, there in state.hosts.items():
            if host in state.meddled:
                continue
            if there.current == credential.id:
                raise BrokenError("S3", f"{host} signs with a key that is said to be {credential.state}")
            if credential.state is KeyState.RETIRED or credential.public is None:
                continue
            trusted = any(
                key == credential.public.spki_digest
                for bundle in (there.bundle, there.heeded)
                if bundle is not None
                for _, key in edges_of(bundle)
            )
            if credential.compromised and not trusted:
                trusted = any(trusts(state, host, server, credential.id) for server in credential.issuers)
            if trusted or credential.id in {*there.credentials, *there.disarmed}:
                which = "S10" if host in state.waived else "S3"
                raise BrokenError(which, f"{host} has a key that is said to be removed")
