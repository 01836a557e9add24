"""Name constraints (RFC 5280 section 4.2.1.10): for which names an authority, and all below it, may certify.

Constraints count whether they are critical or not. Those on a kind of name that is not known here (names of
other systems, of X.400, of EDI) refuse every certificate with a name of that kind, as the section asks.
"""

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from orchestrator.keys.certificate import extension

Kind = type[x509.GeneralName]


def fault_in_names(certificate: x509.Certificate, constraints: x509.NameConstraints) -> str:
    """Which name of a certificate an authority above it may not certify.

    Returns:
        What is wrong, to stand behind the certificate's own name in a sentence; empty: nothing.
    """
    for kind, name in _names(certificate):
        excluded, permitted = (
            [base.value for base in bases or () if type(base) is kind]
            for bases in (constraints.excluded_subtrees, constraints.permitted_subtrees)
        )
        if not excluded and not permitted:
            continue
        within = _rule(kind, name)
        if within is None:
            return f"has {told(kind, name)}, and whether an authority above it permits that cannot be told"
        if any(within(name, base) for base in excluded):
            return f"is for {told(kind, name)}, which an authority above it excludes"
        if permitted and not any(within(name, base) for base in permitted):
            return f"is for {told(kind, name)}, which an authority above it does not permit"
    return ""


def told(kind: Kind, name: Any) -> str:
    """A name for people: a dNSName as it is, others with their kind."""
    if kind is x509.DNSName:
        return str(name)
    if kind is x509.DirectoryName:
        return f"the subject {name.rfc4514_string()!r}"
    return f"a name of the kind {kind.__name__}, {str(name)!r}"


def _names(certificate: x509.Certificate) -> Iterator[tuple[Kind, Any]]:
    """All names that constraints apply to: the subject, mail addresses in it, and the alternative names."""
    if certificate.subject.rdns:
        yield x509.DirectoryName, certificate.subject
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
        yield x509.RFC822Name, str(attribute.value)
    for name in extension(certificate, x509.SubjectAlternativeName) or ():
        yield type(name), name.value


def _rule(kind: Kind, name: Any) -> Callable[[Any, Any], bool] | None:
    """Tells whether a name is within a base; None: that cannot be told of this name."""
    return None if kind is x509.UniformResourceIdentifier and not _host(name) else _RULES.get(kind)


def _in_domain(host: str, base: str) -> bool:
    """Whether a host is the base or below it; a base that begins with a dot does not hold for itself."""
    host, base = host.lower(), base.lower()
    if base.startswith("."):
        return host.endswith(base)
    return not base or host == base or host.endswith(f".{base}")


def _at_host(host: str, base: str) -> bool:
    """Of mail addresses and URIs a base without a dot in front is one host, and none below it."""
    return _in_domain(host, base) if base.startswith(".") else host.lower() == base.lower()


def _in_mail(address: str, base: str) -> bool:
    mailbox, _, host = address.rpartition("@")
    base_mailbox, at, base_host = base.rpartition("@")
    return _at_host(host, base_host) and (not at or mailbox == base_mailbox)


def _in_uri(uri: str, base: str) -> bool:
    return _at_host(_host(uri), base)


def _host(uri: str) -> str:
    """The host that a URI names; empty: it has none, or one without a name."""
    try:
        host = urlsplit(uri).hostname or ""
    except ValueError:
        return ""
    return "" if ":" in host or host.replace(".", "").isdigit() else host


def _in_network(address: Any, base: Any) -> bool:
    return isinstance(address, IPv4Address | IPv6Address) and address in base


def _in_directory(name: x509.Name, base: x509.Name) -> bool:
    return _folded(name)[: len(base.rdns)] == _folded(base)


def _folded(name: x509.Name) -> list[frozenset[tuple[str, str]]]:
    """As names are compared (RFC 5280 section 7.1): without regard to case and to how wide blanks are."""
    return [
        frozenset((one.oid.dotted_string, " ".join(str(one.value).split()).casefold()) for one in rdn)
        for rdn in name.rdns
    ]


_RULES: Mapping[Kind, Callable[[Any, Any], bool]] = {
    x509.DNSName: _in_domain,
    x509.RFC822Name: _in_mail,
    x509.UniformResourceIdentifier: _in_uri,
    x509.IPAddress: _in_network,
    x509.DirectoryName: _in_directory,
}
