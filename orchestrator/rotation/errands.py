"""What a server is visited for at each step: the orders, and what is recorded before they leave."""

from dataclasses import dataclass, replace

from orchestrator.inventory.model import HostName
from orchestrator.keys.material import Random
from orchestrator.rotation import visits as vs
from orchestrator.rotation.lifecycle import Step
from orchestrator.rotation.prolonging import outdated
from orchestrator.rotation.recorded import Credential, Intent, Recorded, Standing
from orchestrator.rotation.standing import View
from orchestrator.rotation.tombstones import Endings
from orchestrator.rotation.visits import Challenge, Hook


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """Orders for one host, and what the ledger has to know before they leave.

    Attributes:
        orders: without private keys; the driver puts them in.
    """

    host: HostName
    orders: tuple[vs.Order, ...]
    intent: Intent


def joined(one: Errand, other: Errand) -> Errand:
    """Two errands to the same host as one: first what it does as a server."""
    return Errand(
        host=one.host,
        orders=(*one.orders, *other.orders),
        intent=replace(one.intent, bundle=other.intent.bundle, proves=other.intent.proves),
    )


def prover(recorded: Recorded, server: HostName) -> Hook | None:
    """The command by which the service of a server signs; None: its playbook has none."""
    record = recorded.servers.get(server)
    desired = recorded.playbooks[record.playbook] if record is not None else None
    if desired is None or server not in desired.prove_commands:
        return None
    return Hook(command=desired.prove_commands[server], timeout=desired.prove_within)


def making(server: HostName, credential: Credential) -> Errand:
    """The visit that has a key made on its server, or asks for the request of the one made there before."""
    order = vs.Generate(credential=credential.id, algorithm=credential.key.algorithm, names=(server,))
    return Errand(host=server, orders=(order,), intent=Intent(host=server, stages=(credential.id,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerErrands:
    """The visits to servers that the record asks for now.

    Attributes:
        random: for nonces.
        endings: the keys that hosts are told to remember as ended.
    """

    view: View
    random: Random
    endings: Endings

    def for_step(self, server: HostName, step: Step) -> Errand | None:
        """The visit that the step asks for, where it is one to the server."""
        recorded = self.view.recorded
        record = recorded.servers[server]
        target = recorded.credentials[record.target] if record.target is not None else None
        held = recorded.may_hold(server) - record.missing.keys()
        there = tuple(c for c in self.view.outgoing(server) if c in held)
        match step:
            case Step.EXPEL:
                return self._expelling(server)
            case Step.MAKE if target is not None and target.is_to_be_made_there:
                return making(server, target)
            case Step.STAGE if target is not None:
                challenge = self._challenge(server)
                return Errand(
                    host=server,
                    orders=(_stage(server, target, challenge),),
                    intent=_bringing(server, target, challenge),
                )
            case Step.ACTIVATE | Step.INSTALL if target is not None:
                challenge = self._challenge(server)
                intent = Intent(host=server, activates=target.id, challenges={target.id: challenge})
                return Errand(host=server, orders=(self._activate(server, target, challenge),), intent=intent)
            case Step.DISARM if self.view.armed(server) or server in recorded.pending:
                order: vs.Order = vs.Disarm(credentials=there, in_use=record.target)
                orders = (*self._serving(server), order)
                return Errand(host=server, orders=orders, intent=Intent(host=server, disarms=there))
            case Step.ERASE:
                order = vs.Erase(credentials=there, ends=self.endings.told(there))
                return Errand(host=server, orders=(order,), intent=Intent(host=server, erases=there))
            case _:
                return None

    def with_new_certificate(self, server: HostName) -> Errand | None:
        """The visit that brings the certificate of a prolonged key; where it is in use, the hook runs."""
        recorded = self.view.recorded
        credential = outdated(recorded, server)
        if credential is None:
            return None
        challenge = self._challenge(server)
        stage = _stage(server, credential, challenge)
        intent = _bringing(server, credential, challenge)
        if recorded.servers[server].placements[credential.id].standing is not Standing.ACTIVE:
            return Errand(host=server, orders=(stage,), intent=intent)
        return Errand(
            host=server,
            orders=(stage, self._activate(server, credential, challenge)),
            intent=replace(intent, activates=credential.id),
        )

    def _expelling(self, server: HostName) -> Errand:
        """The visit that takes compromised keys away at once, whatever else is under way."""
        record = self.view.recorded.servers[server]
        gone = self.view.to_expel(server)
        near = tuple(c for c in gone if record.placements[c].standing is not Standing.DISARMED)
        active = (c for c, placement in record.placements.items() if placement.standing is Standing.ACTIVE)
        disarm = (vs.Disarm(credentials=near, in_use=next(active, None)),) if near else ()
        orders = (*disarm, vs.Erase(credentials=gone, ends=self.endings.told(gone)))
        return Errand(host=server, orders=orders, intent=Intent(host=server, disarms=near, erases=gone))

    def _serving(self, server: HostName) -> tuple[vs.Order, ...]:
        """Has the service show, where it can, that it needs no old key before that is put beyond reach."""
        prove = prover(self.view.recorded, server)
        if prove is None or self.view.target(server) is None:
            return ()
        return (vs.Sign(challenge=self._challenge(server), prove=prove),)

    def _activate(self, server: HostName, credential: Credential, challenge: Challenge) -> vs.Activate:
        playbook = self.view.recorded.servers[server].playbook
        command = self.view.recorded.playbooks[playbook].hooks.get(server)
        return vs.Activate(
            credential=credential.id,
            challenge=challenge,
            algorithm=credential.key.algorithm,
            hook=Hook(command=command) if command is not None else None,
            prove=prover(self.view.recorded, server),
            goes_back=not self.view.is_urgent(server),
            stores=self.view.manifests.server(server),
        )

    def _challenge(self, server: HostName) -> Challenge:
        return Challenge(fleet=self.view.recorded.fleet, server=server, nonce=self.random(32).hex())


def _stage(server: HostName, credential: Credential, challenge: Challenge) -> vs.Stage:
    return vs.Stage(
        credential=credential.id,
        certificate_pem=credential.certificates[server],
        chain_pem=credential.chains[server],
        challenge=challenge,
        algorithm=credential.key.algorithm,
    )


def _bringing(server: HostName, credential: Credential, challenge: Challenge) -> Intent:
    return Intent(
        host=server,
        stages=(credential.id,),
        challenges={credential.id: challenge},
        certificates={credential.id: credential.certificate_digest(server) or ""},
    )
