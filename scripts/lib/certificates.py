"""Certificate authorities and certificates for tests, as PEM files."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


class Authority:
    """Issues certificates into a folder; `ca` is the file with its own."""

    def __init__(self, folder, name):
        self.folder = folder
        self.ca = folder / f"{name}.ca.pem"
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        folder.mkdir(parents=True, exist_ok=True)
        certificate = self._builder(self._name, self._key, 1).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.ca.write_bytes(certificate.sign(self._key, hashes.SHA256()).public_bytes(PEM))

    def issue(self, name, names=(), days=1, usage=None):
        """NAME.crt and NAME.key (NAME.pem has both, as a broker wants it) for the common name, for every use or the one
        named; returns their path without the ending."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, days)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(each) for each in names]), critical=False)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        self.last_serial = certificate.serial_number
        path = self.folder / name
        certificate_text = certificate.public_bytes(PEM)
        key_text = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        for ending, text in ((".crt", certificate_text), (".key", key_text), (".pem", key_text + certificate_text)):
            fresh = path.with_name(path.name + ending + ".new")
            fresh.write_bytes(text)
            fresh.rename(path.with_name(path.name + ending))
        return str(path)

    def revocation_list(self, serials):
        """A file with a list that revokes these certificates."""
        now = datetime.datetime.utcnow()
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name).last_update(now).next_update(
            now + datetime.timedelta(days=1))
        for serial in serials:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build())
        path = self.folder / "crl.pem"
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(PEM))
        return str(path)

    def _builder(self, name, key, days):
        now = datetime.datetime.utcnow()
        return (x509.CertificateBuilder().subject_name(name).issuer_name(self._name).public_key(key.public_key())
                .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=3))
                .not_valid_after(now + datetime.timedelta(days=days)))


def _general_name(text):
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
