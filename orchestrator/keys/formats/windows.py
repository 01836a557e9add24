"""A PowerShell script that brings an exported key into a Windows machine's certificate store.

No Windows has run it yet. Every value in it is made here: digests, and file names that are made of digests.
What an inventory or a certificate says never becomes part of it.

Windows names a certificate by the SHA-1 of its DER, which protects nothing. What protects the container is
its password, and that it is the right one is checked by SHA-256.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from orchestrator.errors import UnsupportedKeyError
from orchestrator.inventory.model import HostName
from orchestrator.keys.material import Algorithm
from orchestrator.keys.secret import Secret

SCRIPT = "import.ps1"

_NAME = re.compile(r"[0-9A-Za-z-]+(\.[0-9A-Za-z]+)?")

_TEMPLATE = r"""#Requires -Version 5.1
#Requires -RunAsAdministrator
# Made by keyrelay; not tried on Windows yet. Brings a key and its certificate into this machine's store:
#
#     .\import.ps1                    asks for the container's password, and imports it
#     .\import.ps1 -RemovePrevious    once the service uses the new one: removes the generations before it
#
# The private key cannot be exported again. SYSTEM and Administrators may use it. For a service's own account:
# certlm.msc, Personal, Certificates, the certificate, All Tasks, Manage Private Keys, add the account, Read.
# Delete the container afterwards, and say so where keyrelay runs: keyrelay cert gone KEY FILE
[CmdletBinding()]
param([switch] $RemovePrevious)
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$store = 'Cert:\LocalMachine\My'
$container = Join-Path $PSScriptRoot @CONTAINER@
$digest = @DIGEST@
$thumbprint = @THUMBPRINT@
$issuers = @(@ISSUERS@)
$previous = @(@PREVIOUS@)

if ($RemovePrevious) {
    if (-not (Test-Path -LiteralPath "$store\$thumbprint")) {
        throw "The new certificate $thumbprint is not in $store; nothing was removed."
    }
    foreach ($one in $previous) {
        if (Test-Path -LiteralPath "$store\$one") {
            Remove-Item -LiteralPath "$store\$one" -DeleteKey
            Write-Output "Removed $one and its private key."
        }
    }
    return
}

if ([Environment]::OSVersion.Version.Build -lt 16299) {
    throw 'This Windows does not read AES-256 and SHA-256 in PKCS #12; Windows 10 1709 and Server 2019 do.'
}
if ((Get-FileHash -LiteralPath $container -Algorithm SHA256).Hash -ne $digest) {
    throw "$container is not the file that this script was made for."
}
foreach ($file in $issuers) {
    $path = Join-Path $PSScriptRoot $file
    Import-Certificate -FilePath $path -CertStoreLocation 'Cert:\LocalMachine\CA' | Out-Null
}
$password = Read-Host -AsSecureString -Prompt 'Password of the container'
Import-PfxCertificate -FilePath $container -CertStoreLocation $store -Password $password | Out-Null
$found = Get-Item -LiteralPath "$store\$thumbprint"
if (-not $found.HasPrivateKey) {
    throw "$thumbprint is in $store without its private key."
}
Write-Output "Imported $thumbprint into $store."
Write-Output "Once the service uses it: .\import.ps1 -RemovePrevious; and delete $container."
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What a Windows machine needs to import a key: a container, its issuers' certificates, a script.

    Attributes:
        server: whose certificate it is.
        certificate: the key's own.
        chain: upwards from it, without the root.
        previous: of the generations before, which the script removes when asked to.
    """

    server: HostName
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    previous: tuple[x509.Certificate, ...]

    @classmethod
    def of(
        cls,
        algorithm: Algorithm,
        server: HostName,
        certificates: Sequence[x509.Certificate],
        previous: Sequence[x509.Certificate],
    ) -> Self:
        """The kit for a key with its certificates.

        Raises:
            UnsupportedKeyError: a kind of key that Windows does not import.
        """
        if algorithm is Algorithm.ED25519:
            raise UnsupportedKeyError(
                "Windows imports no ed25519 key", hint="let the playbook ask for ecdsa-p256 or rsa-3072"
            )
        own, *chain = certificates
        return cls(server=server, certificate=own, chain=tuple(chain), previous=tuple(previous))

    @property
    def container(self) -> str:
        """The name of the PKCS #12 file."""
        return f"keyrelay-{thumbprint(self.certificate)[:16]}.pfx"

    def files(self, container: Secret) -> Mapping[str, Secret]:
        """Every file of it by name, the container last."""
        issuers = {f"issuer-{thumbprint(one)[:16]}.cer": one for one in self.chain}
        values = {
            "CONTAINER": _quoted(self.container),
            "DIGEST": _quoted(hashlib.sha256(container.reveal()).hexdigest().upper()),
            "THUMBPRINT": _quoted(thumbprint(self.certificate)),
            "ISSUERS": ", ".join(map(_quoted, issuers)),
            "PREVIOUS": ", ".join(_quoted(thumbprint(one)) for one in self.previous),
        }
        script = _TEMPLATE
        for name, value in values.items():
            script = script.replace(f"@{name}@", value)
        return {
            SCRIPT: Secret(script.replace("\n", "\r\n").encode("ascii")),
            **{name: Secret(one.public_bytes(Encoding.DER)) for name, one in issuers.items()},
            self.container: container,
        }


def thumbprint(certificate: x509.Certificate) -> str:
    """By what Windows names a certificate: the SHA-1 of its DER, in upper-case hex."""
    return certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - a name, not a protection


def _quoted(value: str) -> str:
    """One of our values between quotes; nothing that could end them is ever among these."""
    if _NAME.fullmatch(value) is None:
        raise ValueError(value)
    return f"'{value}'"
