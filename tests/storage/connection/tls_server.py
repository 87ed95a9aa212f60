"""TLS before a real Postgres, whose pip package is built without, and certificates for it."""

import datetime
import ipaddress
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_TLS_REQUEST = 80877103
_DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates.

    Args:
        folder: where all files go.
        name: of the authority; its own certificate is ``NAME.pem``.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        signed = self._signed(self._name, self._key.public_key(), is_authority=True)
        self.file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def sign(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """Returns the files of a new certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signed = self._signed(subject, key.public_key(), *hosts)
        certificate, private = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        private.touch(mode=0o600)
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, private

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *hosts: str,
        is_authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        )
        if hosts:
            names: list[x509.GeneralName] = [
                x509.IPAddress(ipaddress.ip_address(host))
                if host[0].isdigit()
                else x509.DNSName(host)
                for host in hosts
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


@dataclass
class Gate:
    """Where connections come in.

    Attributes:
        port: on 127.0.0.1.
        encrypted: how many came with TLS.
        plain: how many asked to come without, and were turned away.
    """

    port: int
    encrypted: int = 0
    plain: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def tls_gate(
    behind: str, certificate: tuple[Path, Path], *, clients: Path | None = None
) -> Iterator[Gate]:
    """Lets connections with TLS through to a Postgres, and no others.

    Args:
        behind: the socket of the Postgres.
        certificate: of the gate, and its key.
        clients: the authority of clients' certificates, where they need one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gate = Gate(listener.getsockname()[1])

        def let_in(client: socket.socket) -> None:
            with client, suppress(OSError, struct.error):
                client.settimeout(240)
                _, code = struct.unpack(">II", client.recv(8, socket.MSG_WAITALL))
                if code != _TLS_REQUEST:
                    gate.plain += 1
                    return
                client.sendall(b"S")
                with (
                    context.wrap_socket(client, server_side=True) as inside,
                    socket.socket(socket.AF_UNIX) as server,
                ):
                    server.connect(behind)
                    with gate._lock:
                        gate.encrypted += 1
                    _relay(inside, server)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=let_in, args=(client,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield gate
        listener.shutdown(socket.SHUT_RDWR)


def _relay(inside: ssl.SSLSocket, server: socket.socket) -> None:
    """Passes on what either end sends until one of them closes.

    All in one thread: OpenSSL breaks a connection that two threads read from and write to at once.
    """
    with suppress(OSError):
        while True:
            ready = [inside] if inside.pending() else select.select([inside, server], [], [])[0]
            for source in ready:
                content = _read(source)
                if content == b"":
                    return
                if content is not None:
                    (server if source is inside else inside).sendall(content)


def _read(source: socket.socket) -> bytes | None:
    """Returns what has come; empty at the end, None where no record of TLS is whole yet."""
    limit_s = source.gettimeout()
    source.setblocking(False)
    try:
        return source.recv(65536)
    except ssl.SSLWantReadError:
        return None
    finally:
        source.settimeout(limit_s)
