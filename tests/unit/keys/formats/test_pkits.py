"""NIST's suite for the checking of chains (PKITS), as far as keyrelay has a use for what it checks.

Certificate verdicts of the suite are in the names of its files; a few have none, because they depend on the
policies that somebody asks for. Nobody asks for any here.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import cryptography_vectors
import pytest

from orchestrator.errors import KeyMaterialError
from orchestrator.keys.formats.chains import chain_of
from orchestrator.keys.formats.foreign import ForeignCertificate
from orchestrator.keys.formats.reading import read

FOLDER = Path(cryptography_vectors.__file__).parent / "x509/PKITS_data/certs"
AT = datetime(2020, 1, 1, tzinfo=UTC)
"""The suite's certificates are valid from 2010 to 2030."""

REVOCATION = "lists of revoked certificates are not looked at: agents trust keys, and drop them with a bundle"
POLICY_REQUIRED = (
    "an authority asks for policies in an extension that is not critical; policies are not checked"
)
POLICY_RULES = "rules for policies are not known, and are refused where they are critical"
SPELLING = "names are compared as they are written, as keyrelay and OpenSSL's builder write them"
DSA = "DSA is withdrawn (FIPS 186-5): its keys are weak, and parameters taken from an issuer are not read"

ACCEPTED: Mapping[str, tuple[str, ...]] = {
    REVOCATION: (
        "BadCRLIssuerNameTest5 BadCRLSignatureTest4 BasicSelfIssuedCRLSigningKeyTest7",
        "BasicSelfIssuedNewWithOldTest5 BasicSelfIssuedOldWithNewTest2 IDPwithindirectCRLTest23",
        "IDPwithindirectCRLTest26 LongSerialNumberTest18 MissingCRLTest1 NegativeSerialNumberTest15",
        "OldCRLnextUpdateTest11 RevokedCATest2 RevokedEETest3 SeparateCertificateandCRLKeysTest20",
        "SeparateCertificateandCRLKeysTest21 UnknownCRLEntryExtensionTest8 UnknownCRLExtensionTest10",
        "UnknownCRLExtensionTest9 WrongCRLTest6 cRLIssuerTest27 cRLIssuerTest31 cRLIssuerTest32",
        "cRLIssuerTest34 cRLIssuerTest35 deltaCRLIndicatorNoBaseTest1 deltaCRLTest10 deltaCRLTest3",
        "deltaCRLTest4 deltaCRLTest6 deltaCRLTest9 distributionPointTest2 distributionPointTest3",
        "distributionPointTest6 distributionPointTest8 distributionPointTest9",
        "keyUsageCriticalcRLSignFalseTest4 keyUsageNotCriticalcRLSignFalseTest5",
        "onlyContainsAttributeCertsTest14 onlyContainsCACertsTest12 onlyContainsUserCertsTest11",
        "onlySomeReasonsTest15 onlySomeReasonsTest16 onlySomeReasonsTest17 onlySomeReasonsTest20",
        "onlySomeReasonsTest21 pre2000CRLnextUpdateTest12",
    ),
    POLICY_REQUIRED: (
        "DifferentPoliciesTest12 DifferentPoliciesTest4 DifferentPoliciesTest5 DifferentPoliciesTest7",
        "DifferentPoliciesTest8 DifferentPoliciesTest9",
    ),
}
"""Chains that the suite calls invalid and that are accepted here, by reason."""

REFUSED: Mapping[str, tuple[str, ...]] = {
    POLICY_RULES: (
        "PolicyMappingTest1 PolicyMappingTest11 PolicyMappingTest12 PolicyMappingTest13 PolicyMappingTest14",
        "PolicyMappingTest3 PolicyMappingTest5 PolicyMappingTest6 PolicyMappingTest9",
        "SelfIssuedinhibitAnyPolicyTest7 SelfIssuedinhibitAnyPolicyTest9 inhibitAnyPolicyTest2",
        "SelfIssuedinhibitPolicyMappingTest7 inhibitPolicyMappingTest2 inhibitPolicyMappingTest4",
        "SelfIssuedrequireExplicitPolicyTest6 requireExplicitPolicyTest1 requireExplicitPolicyTest2",
        "requireExplicitPolicyTest4 inhibitAnyPolicyTest3",
    ),
    SPELLING: (
        "NameChainingCapitalizationTest5 NameChainingWhitespaceTest3 NameChainingWhitespaceTest4",
        "RolloverfromPrintableStringtoUTF8StringTest10 UTF8StringCaseInsensitiveMatchTest11",
    ),
    DSA: ("DSAParameterInheritanceTest5 DSASignaturesTest4",),
}
"""Chains that the suite calls valid and that are refused here, by reason."""

LEFT_OPEN = frozenset(f"DifferentPoliciesTest{n}" for n in (4, 5, 7, 8, 9, 12))
"""Files without a verdict in their name which are invalid whatever policies somebody asks for."""


def _named(listed: Mapping[str, tuple[str, ...]]) -> set[str]:
    return {name for lines in listed.values() for line in lines for name in line.split()}


def _read(path: Path) -> ForeignCertificate | None:
    try:
        return read(path.read_bytes()).certificates[0]
    except KeyMaterialError:
        return None


@pytest.fixture(scope="module")
def authorities() -> list[ForeignCertificate]:
    paths = [path for path in sorted(FOLDER.glob("*.crt")) if not path.stem.endswith("EE")]
    return [found for path in paths if (found := _read(path)) is not None]


def _fault(leaf: ForeignCertificate, authorities: list[ForeignCertificate]) -> str:
    """Why no chain leads from the leaf to the authority at the top of the suite; empty: one does."""
    try:
        chain = chain_of([leaf], leaf.key, at=AT, others=authorities)
    except KeyMaterialError as error:
        return error.message
    return (
        "" if chain.certificates[-1].subject.startswith("CN=Trust Anchor,") else "it does not reach the top"
    )


def test_the_suite_and_keyrelay_differ_where_it_is_known_why(authorities: list[ForeignCertificate]) -> None:
    accepted, refused, counts = set(), set(), {True: 0, False: 0}
    for path in sorted(FOLDER.glob("*EE.crt")):
        name = path.stem.removesuffix("EE")
        valid = not name.startswith("Invalid") and name not in LEFT_OPEN
        short = name.removeprefix("Invalid").removeprefix("Valid")
        leaf = _read(path)
        holds = leaf is not None and not _fault(leaf, authorities)
        counts[valid == holds] += 1
        if holds and not valid:
            accepted.add(short)
        if valid and not holds:
            refused.add(short)
    print(f"PKITS: {counts[True]} chains judged alike, {counts[False]} otherwise")  # noqa: T201 - for pytest -rP
    assert accepted == _named(ACCEPTED)
    assert refused == _named(REFUSED)
    assert counts[True] > counts[False]


def test_what_is_refused_is_refused_for_the_reason_that_is_told(
    authorities: list[ForeignCertificate],
) -> None:
    for short in " ".join(REFUSED[POLICY_RULES]).split():
        (path,) = [p for n in (f"Valid{short}EE", f"{short}EE") if (p := FOLDER / f"{n}.crt").exists()]
        leaf = _read(path)
        assert leaf is not None
        assert "critical extension that is not understood, 2.5.29" in _fault(leaf, authorities), short


def test_names_that_an_authority_may_not_certify_are_what_refuses_them(
    authorities: list[ForeignCertificate],
) -> None:
    paths = [
        path for path in sorted(FOLDER.glob("*nameConstraints*EE.crt")) if path.stem.startswith("Invalid")
    ]
    leaves = [leaf for path in paths if (leaf := _read(path)) is not None]
    assert len(leaves) == len(paths) > 20
    for leaf in leaves:
        assert "which an authority above it" in _fault(leaf, authorities), leaf.name
