"""One host in memory: what it holds is a value, and a visit makes another one of it.

``obey`` follows the rules of ``rotation/visits.py`` as ``remote/host/`` follows them: fence, lock, the
order of bundles (S2), what may be activated, disarmed and erased. Keys, requests and signatures are real.
"""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Literal, NoReturn, assert_never

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from orchestrator.errors import KeyMaterialError
from orchestrator.keys.bundle import TrustBundle
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.delegation import fault_of
from orchestrator.keys.material import generate, open_signer, sign
from orchestrator.keys.secret import Secret
from orchestrator.policy.stores import digest_of
from orchestrator.rotation import reports as rp
from orchestrator.rotation import visits
from orchestrator.rotation.observed import MOST_TOMBSTONES, HeldStore, Obstacle, Tombstone
from orchestrator.rotation.reports import Changed, Outcome, Refused, Report, Unchanged, Unreachable, Verdict
from orchestrator.rotation.visits import (
    PROOFS_A_VISIT,
    READING,
    Challenge,
    Claim,
    CredentialId,
    Fence,
    Order,
    Visit,
    Voucher,
)
from tests.fake_state import NO_FAULTS, Faults, Filled, Folder, HostState, filled, keys_of, survey, whole

Random = Callable[[int], bytes]
_Switch = visits.Activate | visits.Revert
_LOST = "the connection was lost before the answer ended"


class _RefusalError(Exception):
    """The order is refused, or, where it has a report, the orders after it are."""

    def __init__(self, reason: str, *reports: Report) -> None:
        super().__init__(reason)
        self.reports = reports


class _FailureError(Exception):
    """The order broke off."""


class _LostError(Exception):
    """The connection broke in the middle of the order."""


def obey(
    state: HostState, visit: Visit, *, now: datetime, random: Random, faults: Faults = NO_FAULTS
) -> tuple[HostState, Outcome]:
    """What the host holds after a visit, and how the visit ends for the controller.

    Raises:
        ValueError: the visit is none: it changes something without a fence, or has too many claims.
    """
    host = visit.endpoint.host
    mutating = _check(visit)
    if faults.unreachable is not None:
        return state, Unreachable(host=host, reason=faults.unreachable)
    if mutating and (reason := _closed(state, visit, faults)):
        fenced = reason.startswith("fenced")
        return state, Refused(host=host, reason=reason, skew=faults.skew, fenced=fenced)
    fence = visit.fence if mutating else None
    desk = _Desk(state=state, fence=fence, now=now + faults.skew, random=random, faults=faults)
    reports: list[Report] = []
    ended = partial(rp.Failed, host=host)
    for number, order in enumerate(visit.orders):
        if number == faults.breaks_after:
            break
        try:
            reports.append(desk.do(order))
        except _RefusalError as error:
            told = (*reports, *error.reports)
            return desk.state, Refused(host=host, reason=str(error), reports=told, skew=faults.skew)
        except _FailureError as error:
            return desk.state, ended(reason=str(error), reports=tuple(reports), skew=faults.skew, told=True)
        except _LostError:
            return desk.state, ended(reason=_LOST)
    if faults.breaks_after is None or faults.breaks_after >= len(visit.orders):
        desk.raise_fence()
    if faults.breaks_after is not None:
        return desk.state, ended(reason=_LOST)
    end = Changed if any(report.changed for report in reports) else Unchanged
    return desk.state, end(host=host, reports=tuple(reports), skew=faults.skew)


def _check(visit: Visit) -> bool:
    """Whether the visit changes something; refuses what no host may be asked."""
    mutating = any(not isinstance(order, READING) for order in visit.orders)
    if mutating and visit.fence is None:
        raise ValueError("a visit that changes something shows a fence")
    claims = sum(
        len(order.claims) for order in visit.orders if isinstance(order, visits.Trust | visits.Check)
    )
    if claims > PROOFS_A_VISIT:
        raise ValueError(f"{claims} claims in one visit; at most {PROOFS_A_VISIT}")
    return mutating or visit.fence is not None


def _closed(state: HostState, visit: Visit, faults: Faults) -> str | None:
    """Why no order of the visit may begin."""
    if faults.refuses is not None:
        return faults.refuses
    if state.locked_by is not None:
        return f"visit {state.locked_by} holds the lock"
    return _fenced(state.fence, visit)


def _fenced(held: Fence | None, visit: Visit) -> str | None:
    """Why the visit's ledger is not the one that the host follows."""
    shown = visit.fence
    if shown is None:
        return None
    if held is not None and shown < held:
        return f"fenced: a controller at {_numbers(held)} was here, this one is at {_numbers(shown)}"
    if held is not None and shown == held:
        other = held.head and shown.head and held.head != shown.head
        there = _numbers(shown)
        return f"fenced: a controller with another ledger was here, at {there} too" if other else None
    told = [(fence, fence.head) for fence in visit.remembers or ()]
    if visit.remembers is None or told == ([] if held is None else [(held, held.head)]):
        return None
    was = _numbers(held) if held is not None else "-"
    expected = _numbers(visit.remembers[0]) if visit.remembers else "-"
    if held is None or (visit.remembers and held < visit.remembers[0]):
        return f"{visit.endpoint.base} is not as it was when it was asked: fence {was}, expected {expected}"
    return f"fenced: another controller was here since it was asked: {was}, expected {expected}"


def _numbers(fence: Fence) -> str:
    return f"{fence.generation}.{fence.counter}"


@dataclass(slots=True, kw_only=True)
class _Desk:
    """A host at work on one visit."""

    state: HostState
    fence: Fence | None
    now: datetime
    random: Random
    faults: Faults

    def raise_fence(self) -> None:
        """The fence is written with the first change, or when all is done; a visit refused leaves none."""
        if self.fence is not None and self.state.fence != self.fence:
            self.state = replace(self.state, fence=self.fence)

    def _become(self, **changes: Any) -> None:
        self.raise_fence()
        self.state = replace(self.state, **changes)

    def do(self, order: Order) -> Report:
        match order:
            case visits.Survey():
                all_of_it = whole(self.state) if order.whole else None
                return rp.Surveyed(survey=survey(self.state, self._obstacles(order)), whole=all_of_it)
            case visits.Generate():
                return self._generate(order)
            case visits.Stage():
                return self._stage(order)
            case visits.Trust():
                return self._trust(order)
            case visits.Activate():
                signature, changed = self._switch(order)
                stores = digest_of(order.stores)
                return rp.Activated(
                    credential=order.credential, signature=signature, changed=changed, stores=stores
                )
            case visits.Revert():
                signature, changed = self._switch(order)
                stores = digest_of(order.stores)
                return rp.Reverted(
                    credential=order.credential, signature=signature, changed=changed, stores=stores
                )
            case visits.Disarm():
                return self._disarm(order)
            case visits.Erase():
                return self._erase(order)
            case visits.Sign():
                return self._sign(order)
            case visits.Check():
                bundle = self._bundle()
                if self.state.untold:
                    raise _RefusalError(f"the hook for bundle {bundle.position} has yet to run well")
                return rp.Checked(digest=bundle.digest, verdicts=self._verdicts(bundle, order.claims))
            case _:
                assert_never(order)

    def _generate(self, order: visits.Generate) -> Report:
        found = self._armed(order.credential)
        if found is None:
            private = generate(order.algorithm, random=self.random).private
            found = Folder(private_key=private, request_pem=_request(private, order.names))
            self._put(order.credential, found)
            return rp.Generated(
                credential=order.credential, request_pem=found.request_pem or "", changed=True
            )
        if found.request_pem is None:
            raise _RefusalError(
                f"credential {order.credential} is here already, and its key was not made here"
            )
        return rp.Generated(credential=order.credential, request_pem=found.request_pem, changed=False)

    def _stage(self, order: visits.Stage) -> Report:
        found = self._armed(order.credential)
        private = order.private_key or (None if found is None else found.private_key)
        if private is None:
            raise _RefusalError(f"no key was made here for credential {order.credential}")
        wanted = replace(
            found or Folder(),
            private_key=private,
            certificate_pem=order.certificate_pem,
            chain_pem=order.chain_pem,
        )
        other_key = found is not None and found.private_key != private
        if other_key:
            raise _RefusalError(f"another credential is here under the id {order.credential}")
        if found != wanted:
            self._put(order.credential, wanted)
            if self.state.current == order.credential:
                due = self.state.came_from if self.state.hook_pending else None
                kept = due is not None and due[0] == order.credential
                self._become(hook_pending=True, came_from=due if kept else (order.credential, None))
        return rp.Staged(
            credential=order.credential, signature=_signed(private, order.challenge), changed=found != wanted
        )

    def _trust(self, order: visits.Trust) -> Report:
        old, new = self.state.bundle, order.bundle
        if old is not None and new.position < old.position:
            raise _RefusalError(f"bundle {old.position} is installed, {new.position} would be a step back")
        if old is not None and new.position == old.position and new.digest != old.digest:
            raise _RefusalError(f"another bundle is installed under the number {new.position}")
        wanted = filled(order.stores)
        came = old is None or old.digest != new.digest
        changed = came or self.state.agent_stores != wanted or self.state.untold
        obstructed = self.faults.obstructs if order.stores else None
        if obstructed is not None and not (came or self.state.untold):
            raise _RefusalError(obstructed)
        ended = self._buried(order.ends, trusted={key.public.spki_digest for key in new.keys if key.signs})
        if came:
            left = (*self.state.loaded[:1], old) if self.state.untold or order.hooks else ()
            self._become(bundle=new, loaded=left)
        if changed and order.hooks:
            self._become(untold=True)
        if ended != self.state.ended:
            self._become(ended=ended)
        troubles: list[str] = []
        if obstructed is not None:
            troubles.append(f"the stores could not be filled: {obstructed}")
        elif self.state.agent_stores != wanted:
            if (said := self._store_trouble(self.state.agent_stores, role="agent")) is not None:
                troubles.append(said)
            else:
                self._become(agent_stores=wanted)
        if order.hooks and changed and self.faults.breaks_at_hook:
            raise _LostError
        if order.hooks and changed and self.faults.hook_fails is not None:
            troubles.append(f"the hook exited 1: {self.faults.hook_fails}")
        elif self.state.untold:
            self._become(untold=False, loaded=())
        if troubles:
            raise _FailureError(f"bundle {new.position} is in use, but {', and '.join(troubles)}")
        return rp.Trusted(
            position=new.position,
            digest=new.digest,
            verdicts=self._verdicts(new, order.claims),
            changed=changed,
            stores=digest_of(order.stores),
        )

    def _obstacles(self, order: visits.Survey) -> tuple[Obstacle, ...]:
        if self.faults.obstructs is None:
            return ()
        asked: tuple[tuple[Literal["server", "agent"], str], ...] = (
            ("server", order.server_stores),
            ("agent", order.agent_stores),
        )
        return tuple(
            Obstacle(role=role, place=place, reason=self.faults.obstructs)
            for role, manifest in asked
            if (wanted := filled(manifest)) is not None
            for place in sorted(wanted.places)
        )

    def _store_trouble(self, before: Filled | None, *, role: str) -> str | None:
        """Why stores cannot be filled; what was there then is there still, and nothing is certain."""
        fails = self.faults.store_fails or self.faults.obstructs
        if fails is None and not self.faults.breaks_at_store:
            return None
        there = before or Filled(manifest="", credential=None, places={}, written={})
        self._become(**{f"{role}_stores": replace(there, manifest="")})
        if self.faults.breaks_at_store:
            raise _LostError
        return f"a store cannot be filled: {fails}"

    def _switch(self, order: _Switch) -> tuple[str, bool]:
        credential, challenge, hook = order.credential, order.challenge, order.hook
        found = self._armed(credential)
        if found is None or found.private_key is None or found.certificate_pem is None:
            raise _RefusalError(f"credential {credential} is not staged here")
        before = self.state.current
        obstructs = self.faults.obstructs if order.stores else None
        if obstructs is not None and (before == credential or order.kind == "revert" or order.goes_back):
            raise _RefusalError(obstructs)
        stores, wanted = self.state.server_stores, filled(order.stores, credential, found)
        changed = before != credential or self.state.hook_pending or stores != wanted
        if changed:
            due, earlier = self.state.came_from or (None, None)
            way_back = self.state.credentials.get(earlier) if earlier is not None else None
            if before == credential == due and way_back is not None and way_back.private_key is not None:
                before = earlier
            due_now = hook is not None or order.prove is not None
            self._become(current=credential, hook_pending=due_now or self.state.hook_pending)
            if due_now:
                self._become(came_from=(credential, before))
            if stores != wanted:
                if (said := self._store_trouble(stores, role="server")) is not None:
                    self._go_back(before, stores, order, said, there=said)
                self._become(server_stores=wanted)
            if hook is not None:
                self._run_hook(before, stores, order)
        if order.prove is not None and (wrong := self._misserved(credential, order.prove)):
            if not changed:
                raise _RefusalError(wrong)
            there = self._misserved(before, order.prove)
            self._go_back(before, stores, order, wrong, there=there)
        if changed:
            self._become(hook_pending=False)
        return _signed(found.private_key, challenge), changed

    def _run_hook(self, before: str | None, stores: Filled | None, order: _Switch) -> None:
        if self.faults.breaks_at_hook:
            raise _LostError
        if self.faults.hook_fails is None:
            return
        said = f"the hook exited 1: {self.faults.hook_fails}"
        # The hook for the credential before fails too, so it is still to be run.
        self._go_back(before, stores, order, said, there=said)

    def _go_back(
        self, before: str | None, stores: Filled | None, order: _Switch, said: str, *, there: str
    ) -> NoReturn:
        """To the credential before, with which the stores of then are filled again.

        ``there`` is what goes wrong on the way; empty: nothing.
        """
        goes_back = order.goes_back if isinstance(order, visits.Activate) else True
        if not goes_back or (self.state.current == before and self.state.server_stores == stores):
            raise _FailureError(f"{said}; still on {self.state.current}")
        if stores is not None:
            folder = self.state.credentials.get(before) if before is not None else None
            stores = filled(stores.manifest or order.stores, before, folder) if folder is not None else None
        back = f"back on {before}" if before else "no credential is in use, as before"
        if self.state.current == before:
            back = f"still on {before}, with the stores of before"
        self._become(current=before, server_stores=stores)
        if there:
            raise _FailureError(f"{said}; {back}, and there {there}")
        self._become(hook_pending=False)
        raise _FailureError(f"{said}; {back}")

    def _misserved(self, credential: str | None, prove: visits.Hook) -> str:
        """Why the service's signature is not made with the key of a credential; empty when it is."""
        serves = self.faults.serves
        if serves is None or credential is None or serves == self.state.credentials[credential].private_key:
            return ""
        after = f"after {prove.timeout.total_seconds():.0f}s the service"
        for name, folder in self.state.credentials.items():
            if folder.private_key == serves:
                return f"{after} still signs with the key of {name}"
        return f"{after} does not sign with the key of {credential}"

    def _disarm(self, order: visits.Disarm) -> Report:
        before = self.state
        current = before.current if order.in_use else None
        if order.in_use is not None and before.current != order.in_use:
            raise _RefusalError(f"credential {before.current or 'none'} is in use, expected {order.in_use}")
        if order.in_use is not None and order.in_use in order.credentials:
            raise _RefusalError(f"credential {order.in_use} is in use")
        moved = {name: folder for name, folder in before.credentials.items() if name in order.credentials}
        stores = before.server_stores if order.in_use else None
        changed = bool(moved) or current != before.current or stores != before.server_stores
        if changed:
            self._become(
                current=current,
                server_stores=stores,
                credentials=_without(before.credentials, moved),
                disarmed={**before.disarmed, **moved},
            )
        emptied = order.in_use is None
        return rp.Disarmed(credentials=order.credentials, changed=changed, emptied=emptied)

    def _erase(self, order: visits.Erase) -> Report:
        before = self.state
        if before.current in order.credentials:
            raise _RefusalError(f"credential {before.current} is in use")
        ended = self._buried(order.ends)
        if ended != self.state.ended:
            self._become(ended=ended)
        gone = order.credentials
        stores = self._forgotten(gone)
        changed = any(name in before.credentials or name in before.disarmed for name in gone)
        changed = changed or stores != before.server_stores
        if changed:
            self._become(
                server_stores=stores,
                credentials=_without(before.credentials, gone),
                disarmed=_without(before.disarmed, gone),
            )
        return rp.Erased(credentials=order.credentials, changed=changed)

    def _forgotten(self, gone: tuple[CredentialId, ...]) -> Filled | None:
        """The server's stores without the keys that are erased; with none in use, nothing is left of them."""
        state, stores = self.state, self.state.server_stores
        if stores is None or (stores.manifest and stores.credential not in gone):
            return stores
        if state.current is None:
            return None
        folders = [{**state.credentials, **state.disarmed}.get(name, Folder()) for name in gone]
        lost = {key for folder in folders for key in keys_of(folder)}

        def left(held: Mapping[str, HeldStore]) -> Mapping[str, HeldStore]:
            return {place: one for place, one in held.items() if lost.isdisjoint(one.keys)}

        credential = state.current if stores.credential in gone else stores.credential
        places, written = left(stores.places), left(stores.written)
        return Filled(manifest="", credential=credential, places=places, written=written)

    def _buried(
        self, ends: Iterable[Tombstone], *, trusted: AbstractSet[str] = frozenset()
    ) -> tuple[Tombstone, ...]:
        """The tombstones after these were added; those of keys that leaked are forgotten last."""
        until = int(self.now.timestamp())
        told = [s for s in (*ends, *self.state.ended) if s.until > until and s.key not in trusted]
        known: dict[str, Tombstone] = {}
        for stone in sorted(told, key=lambda stone: stone.how != "compromised"):
            known.setdefault(stone.key, stone)
        if sum(stone.how == "compromised" for stone in known.values()) > MOST_TOMBSTONES:
            raise _RefusalError(
                "no room to remember that another key leaked:"
                f" it remembers {MOST_TOMBSTONES}, and none has ended yet"
            )
        return tuple(sorted([*known.values()][:MOST_TOMBSTONES]))

    def _sign(self, order: visits.Sign) -> Report:
        current = self.state.current
        folder = self.state.credentials.get(current) if current else None
        if current is None or folder is None or folder.private_key is None:
            raise _RefusalError("no credential is in use")
        serves = self.faults.serves if order.prove is not None else None
        signature = _signed(serves or folder.private_key, order.challenge)
        report = rp.Signed(credential=CredentialId(current), signature=signature)
        if serves is not None and serves != folder.private_key:
            wrong = f"the service does not sign with the key of {current}, which is in use"
            raise _RefusalError(wrong, report)
        return report

    def _bundle(self) -> TrustBundle:
        if self.state.bundle is None:
            raise _RefusalError("no bundle is in use")
        return self.state.bundle

    def _verdicts(self, bundle: TrustBundle, claims: tuple[Claim, ...]) -> tuple[Verdict, ...]:
        return tuple(_verdict(bundle, claim, self.now) for claim in claims)

    def _armed(self, credential: CredentialId) -> Folder | None:
        if credential in self.state.disarmed:
            raise _RefusalError(f"credential {credential} is disarmed here")
        return self.state.credentials.get(credential)

    def _put(self, credential: CredentialId, folder: Folder) -> None:
        self._become(credentials={**self.state.credentials, credential: folder})


def _verdict(bundle: TrustBundle, claim: Claim, now: datetime) -> Verdict:
    if claim.voucher is not None:
        return _vouched(bundle, claim, claim.voucher, now)
    for key in bundle.keys:
        if key.public.spki_digest == claim.key and claim.challenge.server in key.servers:
            if key.expires is not None and key.expires <= now:
                return Verdict.EXPIRED
            valid = key.public.verify(bytes.fromhex(claim.signature), claim.challenge.text())
            return Verdict.VALID if valid else Verdict.INVALID
    return Verdict.UNTRUSTED


def _vouched(bundle: TrustBundle, claim: Claim, voucher: Voucher, now: datetime) -> Verdict:
    granted = [
        one
        for one in bundle.delegations
        if (one.server, one.issuer_key) == (claim.challenge.server, voucher.issuer)
    ]
    if not granted:
        return Verdict.UNTRUSTED
    denied = {one.key.spki_digest for one in bundle.denied}
    if claim.key in denied:
        return Verdict.DENIED
    try:
        certificate = parse_certificate(voucher.certificate_pem)
    except KeyMaterialError:
        return Verdict.UNCERTIFIED
    fault = fault_of(
        certificate,
        server=claim.challenge.server,
        issuer=granted[0].issuer,
        grace=granted[0].grace,
        denied=denied,
        at=now.replace(microsecond=0),
    )
    if fault is not None:
        return Verdict(fault)
    if certificate.public_key.spki_digest != claim.key:
        return Verdict.UNCERTIFIED
    valid = certificate.public_key.verify(bytes.fromhex(claim.signature), claim.challenge.text())
    return Verdict.VALID if valid else Verdict.INVALID


def _signed(private: Secret, challenge: Challenge) -> str:
    return sign(private, challenge.text()).hex()


def _without(folders: Mapping[str, Folder], names: Iterable[str]) -> Mapping[str, Folder]:
    return {name: folder for name, folder in folders.items() if name not in set(names)}


def _request(private: Secret, names: tuple[str, ...]) -> str:
    """A CSR with the first name as its common name and all of them as DNS names."""
    signer = open_signer(private)
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    )
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(signer, digest).public_bytes(Encoding.PEM).decode("ascii")
