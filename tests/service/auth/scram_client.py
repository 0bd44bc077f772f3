"""The client's side of SCRAM-SHA-256, for tests; it checks the server's signature (RFC 5802 §3)."""

import base64
import hashlib
import hmac

from pillarbox.sasl.exchange import ChannelBinding


class ScramClient:
    def __init__(
        self,
        user: str,
        password: str,
        binding: ChannelBinding | None = None,
        *,
        flag: str = "",
        nonce: str = "rOprNGfwEbeRWgbNEkqO",
        authzid: str = "",
    ) -> None:
        self.flag = flag or (f"p={binding.kind}" if binding else "n")
        self.header = f"{self.flag},{'a=' + authzid if authzid else ''},"
        self.binding = binding
        self.password = password
        self.bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={nonce}"
        self.expected = b""

    def first(self) -> bytes:
        return (self.header + self.bare).encode()

    def final(self, server_first: bytes) -> bytes:
        values = dict(part.split("=", 1) for part in server_first.decode().split(","))
        salt, iterations = base64.b64decode(values["s"]), int(values["i"])
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        bound = self.header.encode() + (self.binding.data if self.binding else b"")
        without_proof = f"c={base64.b64encode(bound).decode()},r={values['r']}"
        signed = ",".join((self.bare, server_first.decode(), without_proof)).encode()
        stored_key = hashlib.sha256(client_key).digest()
        signature = hmac.digest(stored_key, signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        self.expected = b"v=" + base64.b64encode(hmac.digest(server_key, signed, "sha256"))
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def check(self, server_final: bytes) -> None:
        assert server_final == self.expected, "the server does not know the password"
