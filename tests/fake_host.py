"""One host in memory: what it holds is a value, and a visit makes another one of it.

``obey`` follows the rules of ``rotation/visits.py`` as ``remote/host.sh`` follows them: fence, lock, the
order of bundles (S2), what may be activated, disarmed and erased. Keys, requests and signatures are real.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from orchestrator.keys.bundle import TrustBundle
from orchestrator.keys.material import generate, open_signer, sign
from orchestrator.keys.secret import Secret
from orchestrator.rotation import visits
from orchestrator.rotation.visits import (
    PROOFS_A_VISIT,
    READING,
    Challenge,
    Changed,
    Claim,
    CredentialId,
    Fence,
    Hook,
    Order,
    Outcome,
    Refused,
    Report,
    Unchanged,
    Unreachable,
    Verdict,
    Visit,
)
from tests.fake_state import NO_FAULTS, Faults, Folder, HostState, survey

Random = Callable[[int], bytes]


class _RefusalError(Exception):
    """The order is refused."""


class _FailureError(Exception):
    """The order broke off."""


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
        return state, Refused(host=host, reason=reason, skew=faults.skew)
    desk = _Desk(state=state, now=now + faults.skew, random=random, hook_fails=faults.hook_fails)
    if mutating:
        desk.state = replace(state, fence=visit.fence)
    reports: list[Report] = []
    for number, order in enumerate(visit.orders):
        if number == faults.breaks_after:
            break
        try:
            reports.append(desk.do(order))
        except _RefusalError as error:
            return desk.state, Refused(host=host, reason=str(error), reports=tuple(reports), skew=faults.skew)
        except _FailureError as error:
            failed = visits.Failed(host=host, reason=str(error), reports=tuple(reports), skew=faults.skew)
            return desk.state, failed
    if faults.breaks_after is not None:
        return desk.state, visits.Failed(host=host, reason="the connection was lost before the answer ended")
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
    return mutating


def _closed(state: HostState, visit: Visit, faults: Faults) -> str | None:
    """Why no order of the visit may begin."""
    if faults.refuses is not None:
        return faults.refuses
    if state.locked_by is not None:
        return f"locked by {state.locked_by}"
    if state.fence is not None and visit.fence is not None and visit.fence < state.fence:
        return f"fence {_numbers(visit.fence)} is lower than {_numbers(state.fence)}"
    return None


def _numbers(fence: Fence) -> str:
    return f"{fence.generation} {fence.counter}"


@dataclass(slots=True, kw_only=True)
class _Desk:
    """A host at work on one visit."""

    state: HostState
    now: datetime
    random: Random
    hook_fails: str | None

    def do(self, order: Order) -> Report:
        match order:
            case visits.Survey():
                return visits.Surveyed(survey=survey(self.state))
            case visits.Generate():
                return self._generate(order)
            case visits.Stage():
                return self._stage(order)
            case visits.Trust():
                return self._trust(order)
            case visits.Activate():
                signature, changed = self._switch(order.credential, order.challenge, order.hook)
                return visits.Activated(credential=order.credential, signature=signature, changed=changed)
            case visits.Revert():
                signature, changed = self._switch(order.credential, order.challenge, order.hook)
                return visits.Reverted(credential=order.credential, signature=signature, changed=changed)
            case visits.Disarm():
                return self._disarm(order)
            case visits.Erase():
                return self._erase(order)
            case visits.Sign():
                return self._sign(order)
            case visits.Check():
                bundle = self._bundle()
                return visits.Checked(digest=bundle.digest, verdicts=self._verdicts(bundle, order.claims))
            case _:
                assert_never(order)

    def _generate(self, order: visits.Generate) -> Report:
        found = self._armed(order.credential)
        if found is None:
            private = generate(order.algorithm, random=self.random).private
            found = Folder(private_key=private, request_pem=_request(private, order.names))
            self._put(order.credential, found)
            return visits.Generated(
                credential=order.credential, request_pem=found.request_pem or "", changed=True
            )
        if found.request_pem is None:
            raise _RefusalError(f"credential {order.credential} was not made on this host")
        return visits.Generated(credential=order.credential, request_pem=found.request_pem, changed=False)

    def _stage(self, order: visits.Stage) -> Report:
        found = self._armed(order.credential)
        private = order.private_key
        if private is None and found is not None:
            private = found.private_key
        if private is None:
            raise _RefusalError(f"there is no key for credential {order.credential}")
        wanted = replace(
            found or Folder(),
            private_key=private,
            certificate_pem=order.certificate_pem,
            chain_pem=order.chain_pem,
        )
        unfinished = found is None or (found.certificate_pem is None and found.private_key == private)
        if found != wanted and not unfinished:
            raise _RefusalError(f"credential {order.credential} is there with other content")
        if found != wanted:
            self._put(order.credential, wanted)
        return visits.Staged(
            credential=order.credential, signature=_signed(private, order.challenge), changed=found != wanted
        )

    def _trust(self, order: visits.Trust) -> Report:
        old, new = self.state.bundle, order.bundle
        if old is not None and new.position < old.position:
            raise _RefusalError(f"bundle {new.position} is older than {old.position}, which is in use")
        if old is not None and new.position == old.position and new.digest != old.digest:
            raise _RefusalError(f"another bundle {new.position} is in use")
        self.state = replace(self.state, bundle=new)
        return visits.Trusted(
            position=new.position,
            digest=new.digest,
            verdicts=self._verdicts(new, order.claims),
            changed=old is None or old.digest != new.digest,
        )

    def _switch(self, credential: CredentialId, challenge: Challenge, hook: Hook | None) -> tuple[str, bool]:
        found = self._armed(credential)
        if found is None or found.private_key is None or found.certificate_pem is None:
            raise _RefusalError(f"credential {credential} is not staged")
        before = self.state.current
        changed = before != credential
        if changed and hook is not None and self.hook_fails is not None:
            back = f"back on {before}" if before else "none in use, as before"
            raise _FailureError(f"hook exited 1: {self.hook_fails}; {back}")
        self.state = replace(self.state, current=credential)
        return _signed(found.private_key, challenge), changed

    def _disarm(self, order: visits.Disarm) -> Report:
        before = self.state
        if order.in_use is None:
            self.state = replace(before, current=None)
        elif before.current != order.in_use:
            raise _RefusalError(f"{before.current or 'no credential'} is in use, not {order.in_use}")
        elif order.in_use in order.credentials:
            raise _RefusalError(f"credential {order.in_use} is in use")
        moved = {name: folder for name, folder in before.credentials.items() if name in order.credentials}
        self.state = replace(
            self.state,
            credentials=_without(before.credentials, moved),
            disarmed={**before.disarmed, **moved},
        )
        changed = bool(moved) or self.state.current != before.current
        return visits.Disarmed(credentials=order.credentials, changed=changed)

    def _erase(self, order: visits.Erase) -> Report:
        before = self.state
        if before.current in order.credentials:
            raise _RefusalError(f"credential {before.current} is in use")
        gone = order.credentials
        self.state = replace(
            before,
            credentials=_without(before.credentials, gone),
            disarmed=_without(before.disarmed, gone),
        )
        changed = any(name in before.credentials or name in before.disarmed for name in gone)
        return visits.Erased(credentials=order.credentials, changed=changed)

    def _sign(self, order: visits.Sign) -> Report:
        current = self.state.current
        folder = self.state.credentials.get(current) if current else None
        if current is None or folder is None or folder.private_key is None:
            raise _RefusalError("no credential is in use")
        signature = _signed(folder.private_key, order.challenge)
        return visits.Signed(credential=CredentialId(current), signature=signature)

    def _bundle(self) -> TrustBundle:
        if self.state.bundle is None:
            raise _RefusalError("no bundle is in use")
        return self.state.bundle

    def _verdicts(self, bundle: TrustBundle, claims: tuple[Claim, ...]) -> tuple[Verdict, ...]:
        return tuple(_verdict(bundle, claim, self.now) for claim in claims)

    def _armed(self, credential: CredentialId) -> Folder | None:
        if credential in self.state.disarmed:
            raise _RefusalError(f"credential {credential} is disarmed")
        return self.state.credentials.get(credential)

    def _put(self, credential: CredentialId, folder: Folder) -> None:
        self.state = replace(self.state, credentials={**self.state.credentials, credential: folder})


def _verdict(bundle: TrustBundle, claim: Claim, now: datetime) -> Verdict:
    for key in bundle.keys:
        if key.public.spki_digest == claim.key and claim.challenge.server in key.servers:
            if key.expires is not None and key.expires <= now:
                return Verdict.EXPIRED
            valid = key.public.verify(bytes.fromhex(claim.signature), claim.challenge.text())
            return Verdict.VALID if valid else Verdict.INVALID
    return Verdict.UNTRUSTED


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
    digest = hashes.SHA256() if isinstance(signer, ec.EllipticCurvePrivateKey) else None
    return builder.sign(signer, digest).public_bytes(Encoding.PEM).decode("ascii")
