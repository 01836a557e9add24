"""Which visits may be made now, and what else has to happen: the engine of the handover.

``decide`` is a pure function of the record: it reads where every server stands (``standing.py``), and
returns everything that may be done at once. Whoever drives it (``operations/handover.py``, or a test) does
that, records it, and asks again. There is no other state, so going on after a crash is asking again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from orchestrator.inventory.model import HostName
from orchestrator.keys.material import Random
from orchestrator.policy.desired import Origin, PlaybookName
from orchestrator.rotation import visits as vs
from orchestrator.rotation.bundles import Press, wanted_lines
from orchestrator.rotation.holdups import Block, Holdups, Wait
from orchestrator.rotation.lifecycle import ENDED, KeyState, Phase, Step
from orchestrator.rotation.patience import over_budget, to_waive
from orchestrator.rotation.recorded import Intent, Proof, Recorded, RolloutId, Standing, TrustLine
from orchestrator.rotation.standing import View
from orchestrator.rotation.visits import Challenge, Claim, CredentialId, Hook

GETTING_READY = frozenset({Step.MAKE, Step.CERTIFY, Step.STAGE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """Orders for one host, and what the ledger has to know before they leave.

    Attributes:
        orders: without private keys; the driver puts them in.
    """

    host: HostName
    orders: tuple[vs.Order, ...]
    intent: Intent


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """All that may be done now.

    Attributes:
        make: keys for the controller to make.
        certify: keys to have certified, each for one server.
        errands: at most one for each host.
        destroy: keys to destroy in the vault.
        waits, blocks: why servers stand still.
        ended: rollouts that have nothing left to do.
        waive: agents that have been away for longer than the playbook waits, with what that costs.
        halt: why the rollout has to be paused; empty: it has not.
        paused: why nothing may be done but what takes a compromised key away; empty: it may.
    """

    make: tuple[CredentialId, ...] = ()
    certify: tuple[tuple[CredentialId, HostName], ...] = ()
    errands: tuple[Errand, ...] = ()
    destroy: tuple[CredentialId, ...] = ()
    waits: tuple[Wait, ...] = ()
    blocks: tuple[Block, ...] = ()
    ended: tuple[RolloutId, ...] = ()
    waive: Mapping[HostName, str] = field(default_factory=dict)
    halt: str = ""
    paused: str = ""

    @property
    def phase(self) -> Phase:
        """The phase of what is done now, as people speak of it; ``done`` when there is nothing."""
        order = [order for errand in self.errands for order in errand.orders]
        kinds = {o.kind for o in order}
        if self.make or self.certify or kinds & {"generate", "stage"}:
            return Phase.STAGE
        if "activate" in kinds:
            return Phase.ACTIVATE
        if kinds & {"disarm", "erase"} or self.destroy:
            return Phase.RETIRE
        return Phase.PUBLISH if kinds else Phase.DONE


def decide(
    recorded: Recorded,
    playbook: PlaybookName,
    *,
    now: datetime,
    random: Random,
    aside: Mapping[HostName, str] | None = None,
) -> Decision:
    """What may be done now.

    Args:
        recorded: the fleet.
        playbook: whose servers are moved, and whose agents are visited. What agents are given follows from
            the whole record all the same.
        now: the present.
        random: for nonces.
        aside: hosts not to visit in this run, since a visit failed, with the reason.
    """
    return _Round(
        recorded,
        playbook,
        now=now,
        random=random,
        aside=aside or {},
    ).decision()


class _Round:
    """One question to the engine."""

    def __init__(
        self,
        recorded: Recorded,
        playbook: PlaybookName,
        *,
        now: datetime,
        random: Random,
        aside: Mapping[HostName, str],
    ) -> None:
        self._recorded = recorded
        self._playbook = playbook
        self._view = View.of(recorded, now)
        self._random = random
        self._aside = aside
        self._all_steps = {
            server: self._view.step(server)
            for server, record in sorted(recorded.servers.items())
            if not record.given_up
        }
        self._steps = {
            server: step
            for server, step in self._all_steps.items()
            if recorded.servers[server].playbook == playbook
        }
        rollout = recorded.running(playbook)
        self._paused = rollout.paused if rollout is not None else ""
        self._moving = {
            server: step
            for server, step in self._steps.items()
            if not self._paused or step is Step.EXPEL or self._view.is_urgent(server)
        }
        self._elsewhere = recorded.elsewhere(playbook)
        self._agents = sorted(
            agent
            for agent, record in recorded.agents.items()
            if agent not in self._elsewhere and not record.given_up
        )
        self._press = Press(recorded)
        self._unsettled: set[HostName] = set()

    def decision(self) -> Decision:
        errands: dict[HostName, Errand] = {}
        for server, step in self._moving.items():
            errand = self._server_errand(server, step)
            if errand is not None and server not in self._aside:
                errands[server] = errand
        waived = self._recorded.waived(self._playbook)
        for agent in sorted(self._agents, key=lambda agent: (agent not in waived, agent)):
            errand = self._agent_errand(agent)
            if errand is None:
                continue
            if agent not in waived:
                self._unsettled.add(agent)
            if self._paused and not self._trusts_compromised(agent):
                continue
            if agent not in self._aside and not self._is_early(agent, errands):
                errands[agent] = _joined(errands[agent], errand) if agent in errands else errand
        holdups = Holdups(view=self._view, steps=self._steps, all_steps=self._all_steps)
        waits = tuple(holdups.waits())
        blocks = tuple(
            holdups.blocks({**self._without_target(), **self._aside}, self._elsewhere, self._unsettled)
        )
        decision = Decision(
            make=self._to_make(),
            certify=self._to_certify(),
            errands=tuple(errands.values()),
            destroy=self._to_destroy(),
            waits=waits,
            blocks=blocks,
            paused=self._paused,
        )
        rollout = self._recorded.running(self._playbook)
        if rollout is None or self._paused:
            return decision
        return replace(
            decision,
            ended=tuple(self._ended()),
            waive=to_waive(self._view, self._steps),
            halt=over_budget(self._view, rollout),
        )

    def _without_target(self) -> Mapping[HostName, str]:
        """Servers that are to have a key which leaked, with the reason why they stay where they are."""
        return {
            server: "the key it is to have is compromised; the next apply makes another one"
            for server in self._steps
            if (target := self._view.target(server)) is not None and self._view.compromised(target)
        }

    def _trusts_compromised(self, agent: HostName) -> bool:
        bundles = self._recorded.bundles(agent)
        return any(self._view.compromised(line.credential) for bundle in bundles for line in bundle.lines)

    def _server_errand(self, server: HostName, step: Step) -> Errand | None:
        """The visit that the step asks for, where it is one to the server."""
        record = self._recorded.servers[server]
        target = self._recorded.credentials[record.target] if record.target is not None else None
        outgoing = self._view.outgoing(server)
        match step:
            case Step.EXPEL:
                return self._expelling(server)
            case Step.MAKE if (
                target is not None and target.public is None and target.key.origin is Origin.SERVER
            ):
                order: vs.Order = vs.Generate(
                    credential=target.id,
                    algorithm=target.key.algorithm,
                    names=(server,),
                )
                return Errand(host=server, orders=(order,), intent=Intent(host=server, stages=(target.id,)))
            case Step.STAGE if target is not None:
                challenge = self._challenge(server)
                order = vs.Stage(
                    credential=target.id,
                    certificate_pem=target.certificates[server],
                    chain_pem=target.chains[server],
                    challenge=challenge,
                    algorithm=target.key.algorithm,
                )
                intent = Intent(host=server, stages=(target.id,), challenges={target.id: challenge})
                return Errand(host=server, orders=(order,), intent=intent)
            case Step.ACTIVATE if target is not None:
                challenge = self._challenge(server)
                order = vs.Activate(
                    credential=target.id,
                    challenge=challenge,
                    algorithm=target.key.algorithm,
                    hook=self._hook(server),
                    goes_back=not self._view.is_urgent(server),
                )
                intent = Intent(host=server, activates=target.id, challenges={target.id: challenge})
                return Errand(host=server, orders=(order,), intent=intent)
            case Step.DISARM:
                there = tuple(c for c in outgoing if c in self._recorded.may_hold(server))
                order = vs.Disarm(credentials=there, in_use=record.target)
                return Errand(host=server, orders=(order,), intent=Intent(host=server, disarms=there))
            case Step.ERASE:
                there = tuple(c for c in outgoing if c in self._recorded.may_hold(server))
                order = vs.Erase(credentials=there)
                return Errand(host=server, orders=(order,), intent=Intent(host=server, erases=there))
            case _:
                return None

    def _expelling(self, server: HostName) -> Errand:
        """The visit that takes compromised keys away at once, whatever else is under way."""
        record = self._recorded.servers[server]
        gone = self._view.to_expel(server)
        near = tuple(c for c in gone if record.placements[c].standing is not Standing.DISARMED)
        active = (c for c, placement in record.placements.items() if placement.standing is Standing.ACTIVE)
        disarm = (vs.Disarm(credentials=near, in_use=next(active, None)),) if near else ()
        orders = (*disarm, vs.Erase(credentials=gone))
        return Errand(host=server, orders=orders, intent=Intent(host=server, disarms=near, erases=gone))

    def _agent_errand(self, agent: HostName) -> Errand | None:
        """The visit that brings the agent the bundle it should have, or lets it prove the one it has."""
        recorded = self._recorded
        record = recorded.agents[agent]
        lines = wanted_lines(self._view, agent, self._all_steps)
        if not lines and record.installed is None and agent not in recorded.pending:
            return None
        bundle, installed = self._press.bundle(lines)
        have = recorded.settled_bundle(agent)
        if have is None or have.content != installed.content:
            proved, claims = self._claims(lines)
            intent = Intent(host=agent, bundle=installed, proves=proved)
            return Errand(host=agent, orders=(vs.Trust(bundle=bundle, claims=claims),), intent=intent)
        proved, claims = self._claims(self._to_prove(agent, lines))
        if not claims:
            return None
        intent = Intent(host=agent, proves=proved)
        return Errand(host=agent, orders=(vs.Check(claims=claims),), intent=intent)

    def _to_prove(self, agent: HostName, lines: frozenset[TrustLine]) -> frozenset[TrustLine]:
        """The lines whose proof is missing, too old, or of a signature from before the switch."""
        return frozenset(
            line
            for line in lines
            if not self._view.proves(agent, line) or agent in self._view.unconfirmed(line.server)
        )

    def _claims(self, lines: frozenset[TrustLine]) -> tuple[tuple[Proof, ...], tuple[Claim, ...]]:
        """The claims an agent can verify for these lines: those for what its servers should end up with."""
        pairs = [
            (Proof(line=line, nonce=claim.challenge.nonce), claim)
            for line in sorted(lines)
            if line.credential == self._recorded.servers[line.server].target
            and (claim := self._claim(line)) is not None
        ][: vs.PROOFS_A_VISIT]
        return tuple(proof for proof, _ in pairs), tuple(claim for _, claim in pairs)

    def _claim(self, line: TrustLine) -> Claim | None:
        placement = self._recorded.servers[line.server].placements.get(line.credential)
        return placement.claim if placement is not None else None

    def _is_early(self, agent: HostName, errands: Mapping[HostName, Errand]) -> bool:
        """Whether one of the agent's servers will have something new for it after this round."""
        servers = self._view.listens.get(agent, frozenset())
        return any(
            self._steps.get(server) in GETTING_READY
            and (server in errands or self._steps[server] is not Step.STAGE)
            and server not in self._aside
            for server in servers
        )

    def _hook(self, server: HostName) -> Hook | None:
        command = self._recorded.playbooks[self._playbook].hooks.get(server)
        return Hook(command=command) if command is not None else None

    def _challenge(self, server: HostName) -> Challenge:
        return Challenge(fleet=self._recorded.fleet, server=server, nonce=self._random(32).hex())

    def _to_make(self) -> tuple[CredentialId, ...]:
        targets = {
            target.id: target
            for server, step in self._moving.items()
            if step is Step.MAKE and (target_id := self._view.target(server)) is not None
            for target in (self._recorded.credentials[target_id],)
        }
        wanted = [c for c in targets.values() if c.public is None and c.key.origin is Origin.CONTROLLER]
        return tuple(sorted(credential.id for credential in wanted))

    def _to_certify(self) -> tuple[tuple[CredentialId, HostName], ...]:
        return tuple(
            (target, server)
            for server, step in self._moving.items()
            if step is Step.CERTIFY
            and server not in self._aside
            and (target := self._view.target(server)) is not None
        )

    def _to_destroy(self) -> tuple[CredentialId, ...]:
        """Keys that nobody signs with, wants or trusts: the vault's copy goes with the servers'."""
        waived = self._recorded.waived(self._playbook)
        trusted = {
            credential
            for by_credential in self._view.trusting.values()
            for credential, agents in by_credential.items()
            if any(agent not in waived for agent in agents)
        }
        held = {c for server in self._all_steps for c in self._recorded.may_hold(server)}
        return tuple(
            sorted(
                credential.id
                for credential in self._recorded.credentials.values()
                if credential.in_vault
                and credential.state in {KeyState.RETIRED, *ENDED}
                and credential.id not in trusted | held
            ),
        )

    def _ended(self) -> Iterator[RolloutId]:
        running = self._recorded.running(self._playbook)
        if running is None or self._unsettled or self._to_destroy():
            return
        uncertain = self._recorded.pending.keys() & {*self._agents, *self._steps}
        if not uncertain and all(step is Step.DONE for step in self._steps.values()):
            yield running.id


def _joined(one: Errand, other: Errand) -> Errand:
    """Two errands to the same host as one: first what it does as a server."""
    return Errand(
        host=one.host,
        orders=(*one.orders, *other.orders),
        intent=replace(one.intent, bundle=other.intent.bundle, proves=other.intent.proves),
    )
