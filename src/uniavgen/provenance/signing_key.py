"""The key that signs manifests: the user's own from a PEM file, or a self-signed one made at first use.

C2PA wants a certificate chain, so the made one has a root of its own and below it a certificate that may sign. Nobody
else trusts it: it shows that a clip was not changed, and to this computer that it was made here.
"""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from uniavgen.artifacts import os_error_text
from uniavgen.errors import ConfigError, OutputError

FILE_NAME: Final = "c2pa.pem"
VALID_FOR: Final = timedelta(days=3650)
_CURVES: Final = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_MAX_BYTES: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A private key with its certificates, the one that signs first."""

    algorithm: str
    """C2PA's name, such as ed25519."""
    private_pem: bytes
    certificates: Sequence[x509.Certificate]

    @property
    def chain_pem(self) -> bytes:
        """Returns the certificates, the one that signs first."""
        return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in self.certificates)

    @property
    def root_pem(self) -> bytes:
        """Returns the last certificate of the chain."""
        return self.certificates[-1].public_bytes(serialization.Encoding.PEM)


def own_key_path() -> Path:
    """Returns where the key that is made at first use lies: $XDG_CONFIG_HOME/uniavgen or ~/.config/uniavgen."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "uniavgen" / FILE_NAME


def own_key() -> SigningKey:
    """Returns the key of this user, made where there is none, in a file that only this user can read.

    Raises OutputError where it cannot be kept, and ConfigError where the file is damaged.
    """
    path = own_key_path()
    try:
        if not path.exists():
            _keep(path, _made_key())
    except OSError as error:
        raise OutputError(f"no key for manifests can be kept in {path.parent}: {os_error_text(error)}") from error
    return read_key(path)


def read_key(path: Path) -> SigningKey:
    """Returns the key in a PEM file of a private key, its certificate and the chain, in any order of the blocks.

    Raises ConfigError where the file cannot be read or does not hold a usable key with its certificate.
    """
    remedy = "name a PEM file with a private key, its certificate and the chain"
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES)
    except OSError as error:
        raise ConfigError(f"the key {path} cannot be read: {os_error_text(error)}; {remedy}") from error
    try:
        private: Any = serialization.load_pem_private_key(text, None)
        certificates = x509.load_pem_x509_certificates(text)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path} holds no private key that can be read, or no certificate; {remedy}") from error
    # The certificate of the key signs; the others follow in the order of the file.
    certificates.sort(key=lambda each: _public_bytes(each) != _public_bytes(private))
    if _public_bytes(certificates[0]) != _public_bytes(private):
        raise ConfigError(f"no certificate in {path} belongs to its private key; {remedy}")
    if not certificates[0].not_valid_before_utc <= datetime.now(UTC) <= certificates[0].not_valid_after_utc:
        raise ConfigError(f"the certificate in {path} is not valid today; renew it")
    return SigningKey(
        algorithm=_algorithm(private, path),
        private_pem=private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        certificates=tuple(certificates),
    )


def _public_bytes(holder: Any) -> bytes:
    return holder.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _algorithm(private: Any, path: Path) -> str:
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in _CURVES:
        return _CURVES[private.curve.name]
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        return "ps256"
    raise ConfigError(
        f"the private key in {path} is of a kind that C2PA does not take; use Ed25519, a curve P-256, P-384 or P-521, "
        "or RSA from 2048 bits on"
    )


def _keep(path: Path, content: bytes) -> None:
    """Writes a file that only its owner can read; where another process was faster, its file stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(content)
        # Unlike a rename, a link never replaces a file.
        path.hardlink_to(partial)
    except FileExistsError:
        return
    finally:
        partial.unlink(missing_ok=True)


def _made_key() -> bytes:
    root_key, key = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
    root_name, name = _name("uniavgen root, self-signed"), _name("uniavgen, self-signed")
    root = _certificate(root_name, root_name, root_key, root_key, is_root=True)
    certificate = _certificate(name, root_name, key, root_key, is_root=False)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + b"".join(each.public_bytes(serialization.Encoding.PEM) for each in (certificate, root))


def _name(text: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, text), x509.NameAttribute(NameOID.ORGANIZATION_NAME, text)]
    )


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ed25519.Ed25519PrivateKey,
    issuer_key: ed25519.Ed25519PrivateKey,
    *,
    is_root: bool,
) -> x509.Certificate:
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
         "decipher_only"), False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not is_root, key_cert_sign=is_root, crl_sign=is_root, **usage),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if not is_root:
        # One of the purposes that C2PA accepts.
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
        ).add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    return builder.sign(issuer_key, None)
