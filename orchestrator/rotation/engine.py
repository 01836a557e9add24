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
from orchestrator.rotation.bundles import Press, wanted_denials, wanted_lines
from orchestrator.rotation.errands import Errand, ServerErrands, joined, making
from orchestrator.rotation.holdups import Block, Edge, Holdups, Wait
from orchestrator.rotation.leftovers import to_destroy, to_retire
from orchestrator.rotation.lifecycle import Phase, Step
from orchestrator.rotation.obstacles import held_back
from orchestrator.rotation.patience import over_budget, to_waive
from orchestrator.rotation.prolonging import in_use, last_call, to_prolong, uncertified
from orchestrator.rotation.recorded import Installed, Intent, Proof, Recorded, RolloutId, TrustLine
from orchestrator.rotation.standing import View
from orchestrator.rotation.stranding import why_missing
from orchestrator.rotation.telling import hooks_of
from orchestrator.rotation.tombstones import Endings
from orchestrator.rotation.visits import Claim, CredentialId, Voucher
from orchestrator.rotation.walk import step_of

GETTING_READY = frozenset({Step.MAKE, Step.CERTIFY, Step.STAGE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """All that may be done now.

    Attributes:
        make: keys for the controller to make.
        certify: keys to have certified, each for one server.
        errands: at most one for each host.
        destroy: keys to destroy in the vault.
        prolong: keys in use to certify anew, since nothing else moves, each with its new end.
        prolong_at: the next instant at which there may be one.
        retire: issuers whose keys are to be destroyed, by what these are called.
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
    prolong: tuple[tuple[CredentialId, datetime], ...] = ()
    prolong_at: datetime | None = None
    retire: tuple[str, ...] = ()
    waits: tuple[Wait, ...] = ()
    blocks: tuple[Block, ...] = ()
    ended: tuple[RolloutId, ...] = ()
    waive: Mapping[HostName, str] = field(default_factory=dict)
    halt: str = ""
    paused: str = ""

    @property
    def moves(self) -> bool:
        """Whether there is anything to do."""
        return self.at_home or bool(self.errands)

    @property
    def at_home(self) -> bool:
        """Whether there is anything to do without visiting a host."""
        made = self.make or self.certify or self.destroy or self.retire or self.prolong
        return bool(made or self.ended or self.waive or self.halt)

    @property
    def phase(self) -> Phase:
        """The phase of what is done now, as people speak of it; ``done`` when there is nothing."""
        order = [order for errand in self.errands for order in errand.orders]
        kinds = {o.kind for o in order}
        if self.make or self.certify or kinds & {"generate", "stage"}:
            return Phase.STAGE
        if "activate" in kinds:
            return Phase.ACTIVATE
        if kinds & {"disarm", "erase"} or self.destroy or self.retire:
            return Phase.RETIRE
        return Phase.PUBLISH if kinds else Phase.DONE


def decide(
    recorded: Recorded,
    playbook: PlaybookName,
    *,
    now: datetime,
    random: Random,
    aside: Mapping[HostName, str] | None = None,
    unissued: Mapping[HostName, str] | None = None,
    unverified: Mapping[Edge, str] | None = None,
) -> Decision:
    """What may be done now.

    Args:
        recorded: the fleet.
        playbook: whose servers are moved, and whose agents are visited. What agents are given follows from
            the whole record all the same.
        now: the present.
        random: for nonces.
        aside: hosts not to visit in this run, since a visit failed, with the reason.
        unissued: servers whose key in use the issuer does not certify anew in this run, with the reason.
        unverified: what agents could not verify in this run, and are not asked again, with the reason.
    """
    return _Round(
        recorded,
        playbook,
        now=now,
        random=random,
        aside=aside or {},
        unissued=unissued or {},
        unverified=unverified or {},
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
        unissued: Mapping[HostName, str],
        unverified: Mapping[Edge, str],
    ) -> None:
        self._recorded = recorded
        self._playbook = playbook
        self._view = View.of(recorded, now)
        self._endings = Endings.of(recorded, now)
        self._errands = ServerErrands(view=self._view, random=random, endings=self._endings)
        self._aside = aside
        self._unissued = unissued
        self._unverified = unverified
        self._all_steps = {
            server: step_of(self._view, server)
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
        self._held = held_back(self._view, self._steps)
        self._elsewhere = recorded.elsewhere(playbook)
        self._agents = sorted(
            agent
            for agent, record in recorded.agents.items()
            if agent not in self._elsewhere and not record.given_up
        )
        self._press = Press(recorded)
        self._unsettled: set[HostName] = set()
        self._destroy = to_destroy(self._view, playbook, self._all_steps)
        self._retire = to_retire(recorded, playbook)

    def decision(self) -> Decision:
        errands: dict[HostName, Errand] = {}
        for server, step in self._steps.items():
            errand = self._prolonging(server, step)
            if errand is None and server in self._moving and server not in self._held:
                errand = self._errands.for_step(server, step)
            if errand is not None and server not in self._aside:
                errands[server] = errand
        waived = self._recorded.waived(self._playbook)
        for agent in sorted(self._agents, key=lambda agent: (agent not in waived, agent)):
            errand = self._agent_errand(agent, wanted_lines(self._view, agent, self._all_steps))
            if errand is None:
                continue
            if agent not in waived:
                self._unsettled.add(agent)
            if self._paused and not self._trusts_compromised(agent):
                errand = self._same_but_longer(agent)
            elif self._is_early(agent, errands):
                continue
            if agent not in self._aside and errand is not None:
                errands[agent] = joined(errands[agent], errand) if agent in errands else errand
        holdups = Holdups(view=self._view, steps=self._steps, all_steps=self._all_steps)
        waits = tuple(holdups.waits())
        blocks = tuple(
            holdups.blocks(
                self._playbook,
                {**self._missing(), **self._without_target(), **self._held, **self._unissued, **self._aside},
                self._elsewhere,
                self._unsettled | self._unissued.keys(),
                self._unverified,
            )
        )
        decision = Decision(
            make=self._to_make(),
            certify=(*self._to_certify(), *self._to_certify_anew()),
            errands=tuple(errands.values()),
            destroy=self._destroy,
            retire=self._retire,
            waits=waits,
            blocks=blocks,
            paused=self._paused,
        )
        rollout = self._recorded.running(self._playbook)
        if rollout is not None and not self._paused:
            decision = replace(
                decision,
                ended=tuple(self._ended()),
                waive=to_waive(self._view, self._steps),
                halt=over_budget(self._view, rollout),
            )
        if rollout is None or decision.moves:
            return decision
        servers = frozenset(self._steps)
        calls = (last_call(self._recorded, key) for key in in_use(self._recorded, servers))
        return replace(
            decision,
            prolong=tuple(to_prolong(self._view, servers)),
            prolong_at=min((at for at in calls if at is not None), default=None),
        )

    def _prolonging(self, server: HostName, step: Step) -> Errand | None:
        """The visit that a key in use needs which is certified anew; it comes before any other."""
        if step is Step.EXPEL or server in self._recorded.pending:
            return None
        key = uncertified(self._recorded, server) if server not in self._unissued else None
        if key is not None and key.key.origin is Origin.SERVER:
            return making(server, key)
        return self._errands.with_new_certificate(server)

    def _to_certify_anew(self) -> Iterator[tuple[CredentialId, HostName]]:
        for server in sorted(self._steps.keys() - self._unissued.keys()):
            key = uncertified(self._recorded, server)
            if key is not None and key.key.origin is Origin.CONTROLLER and key.in_vault:
                yield key.id, server

    def _without_target(self) -> Mapping[HostName, str]:
        """Servers that are to have a key which leaked, with the reason why they stay where they are."""
        return {
            server: "the key it is to have is compromised; the next apply makes another one"
            for server in self._steps
            if (target := self._view.target(server)) is not None and self._view.compromised(target)
        }

    def _missing(self) -> Mapping[HostName, str]:
        """Servers on which an old key is not to be seen, with what a person may say of it."""
        return {
            server: why_missing(self._view, server)
            for server, step in self._steps.items()
            if step is Step.DISARM and self._view.missing(server) and not self._view.armed(server)
        }

    def _trusts_compromised(self, agent: HostName) -> bool:
        return any(
            line.credential and self._view.compromised(line.credential)
            for bundle in self._recorded.bundles(agent)
            for line in bundle.lines
        ) or any(
            wanted_denials(self._view, frozenset(bundle.lines)) - set(bundle.denied)
            for bundle in self._recorded.bundles(agent)
        )

    def _same_but_longer(self, agent: HostName) -> Errand | None:
        """The visit that brings the agent later ends of the keys and issuers it trusts, and nothing else."""
        recorded = self._recorded
        lines = frozenset(line for bundle in recorded.bundles(agent) for line in bundle.lines)
        if not any(line.issuer or recorded.credentials[line.credential].prolonged for line in lines):
            return None
        errand = self._agent_errand(agent, lines)
        return errand if errand is not None and errand.intent.bundle is not None else None

    def _agent_errand(self, agent: HostName, lines: frozenset[TrustLine]) -> Errand | None:
        """The visit that brings the agent a bundle with these lines, or lets it prove the one it has."""
        recorded = self._recorded
        record = recorded.agents[agent]
        stocked = self._view.manifests.is_stocked(agent)
        has_nothing = record.installed is None and agent not in recorded.pending
        if not lines and has_nothing and agent not in recorded.agent_stores:
            return None
        denied = wanted_denials(self._view, lines)
        bundle, installed = self._press.bundle(lines, denied)
        have = recorded.settled_bundle(agent)
        if have is None or not stocked or not self._is_as_good(have, installed):
            proved, claims = self._claims(agent, lines)
            intent = Intent(host=agent, bundle=installed, proves=proved)
            had = {ln.credential for b in recorded.bundles(agent) for ln in b.lines if ln.credential}
            ends = self._endings.told(had - {line.credential for line in lines})
            stores = self._view.manifests.agent(agent)
            hooks = hooks_of(self._view, agent)
            order = vs.Trust(bundle=bundle, claims=claims, ends=ends, stores=stores, hooks=hooks)
            return Errand(host=agent, orders=(order,), intent=intent)
        proved, claims = self._claims(agent, self._to_prove(agent, lines))
        if not claims:
            return None
        intent = Intent(host=agent, proves=proved)
        return Errand(host=agent, orders=(vs.Check(claims=claims),), intent=intent)

    def _is_as_good(self, have: Installed, wanted: Installed) -> bool:
        """Whether a bundle says what it should; one that denies more, for no more reason, is as good."""
        if have.content == wanted.content:
            return True
        if not set(have.denied) > set(wanted.denied):
            return False
        _, kept = self._press.bundle(frozenset(wanted.lines), frozenset(have.denied))
        return have.content == kept.content

    def _to_prove(self, agent: HostName, lines: frozenset[TrustLine]) -> frozenset[TrustLine]:
        """The lines of targets whose proof is missing, too old, or of a signature from before the switch."""
        return frozenset(
            line
            for line in lines
            if line == self._view.target_line(line.server)
            and (not self._view.proves(agent, line.server) or agent in self._view.unconfirmed(line.server))
        )

    def _claims(
        self, agent: HostName, lines: frozenset[TrustLine]
    ) -> tuple[tuple[Proof, ...], tuple[Claim, ...]]:
        """The claims an agent can verify for these lines: those for what its servers should end up with.

        What has ended it refuses, and what it could not verify in this run it is not asked again.
        """
        pairs: list[tuple[Proof, Claim]] = []
        for line in sorted(lines):
            target = self._view.target(line.server)
            if target is None or line != self._view.line(line.server, target):
                continue
            if self._view.ended(line.server) is not None or (agent, line.server) in self._unverified:
                continue
            placement = self._recorded.servers[line.server].placements.get(target)
            if placement is None or placement.claim is None:
                continue
            claim, algorithm = placement.claim, None
            if line.issuer:
                known = self._recorded.credentials[target]
                algorithm = known.key.algorithm
                voucher = Voucher(certificate_pem=known.certificates[line.server], issuer=line.issuer)
                claim = replace(claim, voucher=voucher)
            pairs.append((Proof(line=line, nonce=claim.challenge.nonce, algorithm=algorithm), claim))
        pairs = pairs[: vs.PROOFS_A_VISIT]
        return tuple(proof for proof, _ in pairs), tuple(claim for _, claim in pairs)

    def _is_early(self, agent: HostName, errands: Mapping[HostName, Errand]) -> bool:
        """Whether one of the agent's servers will have something new for it after this round."""
        servers = self._view.listens.get(agent, frozenset())
        return any(
            self._steps.get(server) in GETTING_READY
            and (server in errands or self._steps[server] is not Step.STAGE)
            and server not in self._aside
            and server not in self._held
            for server in servers
        )

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

    def _ended(self) -> Iterator[RolloutId]:
        running = self._recorded.running(self._playbook)
        if running is None or self._unsettled or self._destroy or self._retire:
            return
        uncertain = self._recorded.pending.keys() & {*self._agents, *self._steps}
        if not uncertain and all(step is Step.DONE for step in self._steps.values()):
            yield running.id
