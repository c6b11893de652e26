"""Real registries that require a password or a token. Used by the tests of the registry client."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from demo.processes import free_port, require_program, running
from tests.daemon.registry.scripted import Reply, Request, scripted_server

USERNAME, PASSWORD = "fleet", "correct horse"
IDENTITY_TOKEN = "an identity token"
BASIC = "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
# The bcrypt hash of PASSWORD at the lowest cost; the registry supports no other hash.
_HTPASSWD = f"{USERNAME}:$2b$04$sklGjl6EvvvWCKfKm.RW7eV/5kpBoREbj.XP2UGTL0Qvbe4SYi1vG\n"
_SERVICE, _ISSUER = "registry under test", "token server under test"

_CONFIGURATION = """\
version: 0.1
log:
  level: warn
storage:
  filesystem:
    rootdirectory: {folder}/data
http:
  addr: {address}
auth:
{auth}
"""


@contextmanager
def password_registry(folder: Path) -> Iterator[str]:
    """Run a registry with one user and yield its address."""
    htpasswd = folder / "htpasswd"
    htpasswd.write_text(_HTPASSWD)
    with _registry(folder, f"  htpasswd:\n    realm: test\n    path: {htpasswd}") as address:
        yield address


@dataclass
class TokenServer:
    """Issues tokens that the registry accepts and records all requests."""

    requests: list[Request] = field(default_factory=list)
    anonymous: bool = True
    """Whether clients without credentials get a token for pulling."""
    lifetime: int = 300
    reply_key: str = "token"
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    def __post_init__(self) -> None:
        self.certificate = self_signed(self.key, "token server under test")

    def reply(self, request: Request) -> Reply:
        """Respond to a token request."""
        self.requests.append(request)
        query = parse_qs(urlsplit(request.path).query or request.body.decode())
        is_known = request.headers.get("Authorization") == BASIC or query.get("refresh_token") == [IDENTITY_TOKEN]
        is_anonymous = request.method == "GET" and "Authorization" not in request.headers
        if not is_known and not (is_anonymous and self.anonymous):
            return Reply(401)
        repository = query["scope"][0].split(":")[1]
        reply = {self.reply_key: self.sign(repository, ["pull"]), "expires_in": self.lifetime}
        return Reply(200, body=json.dumps(reply).encode())

    def sign(self, repository: str, actions: list[str]) -> str:
        """Create a token for a repository."""
        now = int(time.time())
        head = {
            "typ": "JWT",
            "alg": "RS256",
            "x5c": [base64.b64encode(self.certificate.public_bytes(serialization.Encoding.DER)).decode()],
        }
        claims = {
            "iss": _ISSUER,
            "aud": _SERVICE,
            "sub": "",
            "nbf": now - 60,
            "iat": now,
            "exp": now + 300,
            "jti": "1",
            "access": [{"type": "repository", "name": repository, "actions": actions}],
        }
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in (head, claims))
        signature = self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64url(signature)}"


@contextmanager
def token_registry(folder: Path, tokens: TokenServer) -> Iterator[str]:
    """Run a registry that accepts tokens of the token server and yield its address."""
    bundle = folder / "tokens.pem"
    bundle.write_bytes(tokens.certificate.public_bytes(serialization.Encoding.PEM))
    with scripted_server(tokens.reply) as server:
        auth = {
            "realm": f"http://{server.address}/token",
            "service": _SERVICE,
            "issuer": _ISSUER,
            "rootcertbundle": str(bundle),
        }
        lines = "\n".join(f"    {name}: {value}" for name, value in auth.items())
        with _registry(folder, f"  token:\n{lines}") as address:
            yield address


@contextmanager
def _registry(folder: Path, auth: str) -> Iterator[str]:
    program = require_program("docker-registry", "docker-registry")
    address = f"127.0.0.1:{free_port()}"
    configuration = folder / "config.yml"
    configuration.write_text(_CONFIGURATION.format(folder=folder, address=address, auth=auth))
    command = [program, "serve", str(configuration)]
    with running(command, log=folder / "registry.log", ready=lambda: _requires_authentication(address)):
        yield address


def self_signed(key: rsa.RSAPrivateKey, name: str) -> x509.Certificate:
    """Create a self-signed certificate that is valid today."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _requires_authentication(address: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{address}/v2/", timeout=5)
    except urllib.error.HTTPError as error:
        with error:
            return error.code == 401
    except urllib.error.URLError:
        return False
    return False


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def bearer(token: str) -> Mapping[str, str]:
    """Return the `Authorization` header for a token."""
    return {"Authorization": f"Bearer {token}"}
