"""Credentials and tokens: Basic in, JWT out."""

import base64
import binascii
import secrets
import threading
import time

import jwt

from tests.clearml_stub.errors import ApiError, bad_credentials, bad_token, no_credentials

_DAY_S = 86400


class Tokens:
    """Gives tokens to whoever has the keys.

    Args:
        access_key: of the only user.
        secret_key: likewise.
        api_version: what the token says of the server's API.
        lifetime_s: of a token, unless the client asks for another.
    """

    def __init__(
        self,
        access_key: str,
        secret_key: str,
        *,
        api_version: str = "2.31",
        lifetime_s: int = 30 * _DAY_S,
    ) -> None:
        self.access_key, self.secret_key = access_key, secret_key
        self.refuses = False
        self._claims = {
            "api_version": api_version,
            "server_version": "2.0.0",
            "server_build": "stub",
            "feature_set": "basic",
            "env": "stub",
        }
        self._lifetime_s = lifetime_s
        self._signature = secrets.token_hex(32)
        self._generation = 0
        self._lock = threading.Lock()

    def expire(self) -> None:
        """Makes all tokens that were given invalid; whoever logs in gets a new one."""
        with self._lock:
            self._generation += 1

    def login(self, authorization: str | None, expiration_s: int | None) -> str:
        """Returns a token for credentials, or for a token.

        Raises:
            ApiError: neither is valid.
        """
        kind, _, value = (authorization or "").partition(" ")
        if kind == "Bearer":
            self.check(authorization)
        elif kind == "Basic":
            if self.refuses or self._decoded(value) != f"{self.access_key}:{self.secret_key}":
                raise bad_credentials()
        else:
            raise no_credentials()
        claims = {
            **self._claims,
            "exp": int(time.time()) + (expiration_s or self._lifetime_s),
            "generation": self._generation,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._signature, algorithm="HS256")

    def check(self, authorization: str | None) -> None:
        """Raises ApiError unless there is a valid token."""
        kind, _, token = (authorization or "").partition(" ")
        if kind != "Bearer":
            raise no_credentials()
        try:
            claims = jwt.decode(token, self._signature, algorithms=["HS256"])
        except jwt.InvalidTokenError as error:
            raise bad_token(str(error)) from error
        if self.refuses or claims["generation"] != self._generation:
            raise bad_token("expired")

    @staticmethod
    def _decoded(value: str) -> str:
        try:
            return base64.b64decode(value, validate=True).decode("latin-1")
        except (binascii.Error, ValueError) as error:
            raise ApiError(401, 21, "Unauthorized (malformed credentials)") from error
