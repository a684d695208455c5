"""Verifies tokens by the published key set alone, while keys rotate and tokens are made all the time.

Each verifier is a library that follows the key set by its own means: PyJWT, joserfc and jose (Node, `verifier.mjs`). A key is published for
a quarter of an hour before it signs, and may be kept for five minutes; here the verifiers keep the key set for two seconds, and once a key has been published
for five, its row is made to look that much older. Every token that the server makes goes to all of them and to the server itself, at once:
none may be refused. At the end a key is revoked: what it signed is refused by the server at once, and by them when they have read again.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
from joserfc import jwt as jose_jwt
from joserfc.jwk import KeySet
from servers import die, wait_until

ALGORITHM = sys.argv[1]
GRPC = os.environ["DOORWARD__SERVER__GRPC_ADDR"]
KEYS = f"http://{os.environ['DOORWARD__SERVER__HTTP_ADDR']}/.well-known/jwks.json"
ISSUER, AUDIENCE = "http://127.0.0.1:8080", "doorward-clients"
# Seconds that the verifiers keep the key set, and that a key is published before it is made to look older.
KEPT = 2
PUBLISHED = 5
ROTATIONS = 2
PASSWORD = "correct horse battery staple"


def call(method: str, message: dict[str, Any]) -> dict[str, Any] | None:
    """What a method answers; nothing where it refuses."""
    words = [os.environ["GRPCURL"], "-plaintext", "-max-time", "20", "-d", json.dumps(message), GRPC, f"doorward.v1.AuthService/{method}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def command(*words: str, typed: str = "") -> Any:
    """What the command answers."""
    done = subprocess.run(
        [os.environ["DOORWARD"], *words, "--format", "json"], input=typed, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        die(f"doorward {' '.join(words)}: {done.stderr}")
    return json.loads(done.stdout)


def by_pyjwt() -> Callable[[str], bool]:
    """PyJWT with its own client of key sets."""
    keys = jwt.PyJWKClient(KEYS, lifespan=KEPT)

    def verify(token: str) -> bool:
        key = keys.get_signing_key_from_jwt(token)
        required = {"require": ["exp", "iss", "aud"]}
        claims = jwt.decode(token, key, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=ISSUER, options=required)
        return bool(claims["sub"])

    return verify


def by_joserfc() -> Callable[[str], bool]:
    """joserfc, and a key set that is kept for as long as the answer lets it, scaled down."""
    kept: dict[str, Any] = {"until": 0.0}

    def verify(token: str) -> bool:
        if time.monotonic() >= kept["until"]:
            with urllib.request.urlopen(KEYS, timeout=5) as answer:
                max_age = int(answer.headers["Cache-Control"].rpartition("max-age=")[2])
                kept["keys"] = KeySet.import_key_set(json.load(answer))
            kept["until"] = time.monotonic() + max_age * KEPT / 300
        claims = jose_jwt.decode(token, kept["keys"], algorithms=[ALGORITHM])
        rules = jose_jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": ISSUER}, aud={"essential": True, "value": AUDIENCE}, exp={"essential": True}
        )
        rules.validate(claims.claims)
        return claims.header["typ"] == "at+jwt"

    return verify


def by_jose() -> Callable[[str], bool]:
    """jose in a process of its own, which reads a token a line."""
    words = ["node", str(Path(__file__).with_name("verifier.mjs")), KEYS, ALGORITHM, ISSUER, AUDIENCE, str(KEPT)]
    node = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert node.stdin is not None and node.stdout is not None
    sink, source = node.stdin, node.stdout

    def verify(token: str) -> bool:
        sink.write(f"{token}\n")
        sink.flush()
        word = source.readline().strip()
        if word != "good":
            raise ValueError(word)
        return True

    return verify


def by_doorward(token: str) -> bool:
    """The server itself."""
    return call("ValidateSession", {"access_token": token}) is not None


def accepts(verify: Callable[[str], bool], token: str) -> bool:
    """Whether a verifier takes a token."""
    try:
        return verify(token)
    except Exception as error:  # noqa: BLE001 - each library has its own.
        print(f"  {type(error).__name__}: {error}", file=sys.stderr)
        return False


def main() -> None:
    command("user", "create", "--email", "ann@example.com", "--password-stdin", typed=PASSWORD)
    login = call("Login", {"identifier": "ann@example.com", "password": PASSWORD}) or die("nobody can log in")
    tokens = login["tokens"]
    verifiers = {"Doorward": by_doorward, "PyJWT": by_pyjwt(), "joserfc": by_joserfc(), "jose": by_jose()}
    made = 0
    seen: dict[str, str] = {}

    def mint() -> str:
        nonlocal tokens, made
        answer = call("IssueToken", {"refresh_token": {"refresh_token": tokens["refreshToken"]}}) or die("a refresh was refused")
        tokens = answer["tokens"]
        token = str(tokens["accessToken"])
        made += 1
        for name, verify in verifiers.items():
            if not accepts(verify, token):
                die(f"{name} refuses a good token, the {made}th, of the key {jwt.get_unverified_header(token)['kid']}")
        kid = jwt.get_unverified_header(token)["kid"]
        seen.setdefault(kid, token)
        return str(kid)

    def mint_for(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            mint()

    mint_for(1)
    for _ in range(ROTATIONS):
        before = mint()
        command("key", "rotate")
        mint_for(PUBLISHED)
        with sqlite3.connect("doorward.db", timeout=10) as database:
            database.execute("UPDATE signing_keys SET created_at = created_at - 900 WHERE state = 'pending'")
        wait_until("the next key signs", 10, lambda: mint() != before)
        mint_for(1)
        for name, verify in verifiers.items():
            if not accepts(verify, seen[before]):
                die(f"{name} refuses a token of the key before, which is retired and verifies")
    if len(seen) != ROTATIONS + 1:
        die(f"tokens of {len(seen)} keys after {ROTATIONS} rotations")
    print(f"ok: {ALGORITHM}: {made} tokens of {len(seen)} keys, verified by {', '.join(verifiers)}: none refused")

    last = mint()
    command("key", "revoke", last, "--yes")
    for name, verify in verifiers.items():
        wait_until(f"{name} refuses what a revoked key signed", KEPT + 8, lambda verify=verify: not quietly(verify, seen[last]))
    mint()
    print(f"ok: {ALGORITHM}: what a revoked key signed is refused by all of them, and the next key signs")


def quietly(verify: Callable[[str], bool], token: str) -> bool:
    """Whether a verifier takes a token; why not is no news."""
    try:
        return verify(token)
    except Exception:  # noqa: BLE001 - each library has its own.
        return False


main()
