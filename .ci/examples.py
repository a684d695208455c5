"""The backends of deploy/examples/python, served by uvicorn, against a real server on SQLite: what they answer to real requests, first in
plain text, then over TLS, where the server demands known callers.

Beside that: the table of reasons in README.md, in the contract and in the examples is one and the same, and only what is safe to
repeat is repeated. `.ci/examples` makes the certificates and starts it, in the virtual environment that the examples'
requirements make.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from servers import START_LIMIT, clean_environment, die, is_ready, wait_until

ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "correct horse battery staple"
# Seconds until a backend must have answered whatever happens to Doorward: its deadline, and some.
ANSWER_LIMIT = 4.0
# Seconds between two attempts of a channel to connect: two, and what gRPC adds by chance, and some.
LONGEST_PAUSE = 3.5
# The module that serves each example, and whether the tenant is in its path, or in a header.
EXAMPLES = [("FastAPI", "fastapi_app:app", True), ("django-ninja", "ninja_app:application", False)]


def check(what: str, holds: bool, seen: object) -> None:
    if not holds:
        die(f"{what}: not so, but: {seen}")


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: dict[str, Any]


@dataclass
class Backend:
    """One of the examples, being served."""

    name: str
    port: int
    in_path: bool  # Whether the tenant is in the path, or in a header.

    def ask(self, method: str, path: str, token: str | None = None, *, authorization: str | None = None) -> Answer:
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        if authorization is not None:
            headers["Authorization"] = authorization
        if not self.in_path and (named := re.fullmatch(r"/tenants/(.+)/sales", path)):
            headers["X-Tenant"], path = named[1], "/sales"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_LIMIT)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            text = response.read()
            return Answer(response.status, response.headers, json.loads(text))
        except TimeoutError:
            die(f"{self.name}: {method} {path} was not answered within {ANSWER_LIMIT} s")
        except ValueError:
            die(f"{self.name}: {method} {path} answered {response.status} and no JSON: {text!r}")
        finally:
            connection.close()

    def answers(self, status: int, said: str, method: str, path: str, token: str | None = None, **more: str) -> Answer:
        """Demands a status and a value in the body: a reason, or what the route answers."""
        answer = self.ask(method, path, token, **more)
        check(f"{self.name}: {method} {path} answers {status} and {said}", answer.status == status and said in answer.body.values(), answer)
        bearer = answer.headers.get("WWW-Authenticate")
        wanted = None if status != 401 else "Bearer" if said == "TOKEN_MISSING" else 'Bearer error="invalid_token"'
        check(f"{self.name}: WWW-Authenticate for {said}", bearer == wanted, bearer)
        check(f"{self.name}: Retry-After for {said}", (answer.headers.get("Retry-After") is not None) == (status == 503), answer)
        return answer


class Doorward:
    """The server and its command, in a folder of its own."""

    def __init__(self, folder: Path, ports: list[int]) -> None:
        grpc_addr, http_addr, self.ops_addr = (f"127.0.0.1:{port}" for port in ports)
        self.port, self.folder, self.target = ports[0], folder, f"dns:///{grpc_addr}"
        self.environment = {
            **clean_environment(),
            "DOORWARD__SERVER__GRPC_ADDR": grpc_addr,
            "DOORWARD__SERVER__HTTP_ADDR": http_addr,
            "DOORWARD__SERVER__OPS_ADDR": self.ops_addr,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen([os.environ["DOORWARD"]], cwd=self.folder, env=self.environment, stdout=log, stderr=log)
        wait_until("Doorward becomes ready", START_LIMIT, lambda: is_ready(self.ops_addr))

    def demand_callers(self, certificates: Path) -> None:
        """From the next start on: TLS alone, and a known caller for every call."""
        self.environment |= {
            "DOORWARD__SERVER__TLS_CERT_FILE": str(certificates / "server.crt"),
            "DOORWARD__SERVER__TLS_KEY_FILE": str(certificates / "server.key"),
            "DOORWARD__SERVER__CLIENT_CA_FILE": str(certificates / "ca.crt"),
            "DOORWARD__CALLERS__MODE": "required",
        }

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        assert self.process is not None
        self.signal(signal.SIGTERM)
        check("Doorward stops cleanly", self.process.wait(timeout=30) == 0, self.process.returncode)

    def command(self, *arguments: str, typed: str = "") -> dict[str, Any]:
        done = subprocess.run(
            [os.environ["DOORWARD"], *arguments, "--format", "json"],
            cwd=self.folder, env=self.environment, input=typed, capture_output=True, text=True, check=False,
        )  # fmt: skip
        check(f"doorward {' '.join(arguments)}", done.returncode == 0, done.stderr)
        return dict(json.loads(done.stdout))

    def change(self, *arguments: str) -> None:
        """A command whose effect the running server has seen: it looks four times a second, and one look may have been under way."""
        self.command(*arguments)
        before = self.metric("doorward_feed_polls_total")
        wait_until("the server looks at what changed", LONGEST_PAUSE, lambda: self.metric("doorward_feed_polls_total") > before + 1)

    def metric(self, sample: str) -> int:
        """The value of a sample, by its name with its labels."""
        with urllib.request.urlopen(f"http://{self.ops_addr}/metrics", timeout=5) as answer:
            found = re.search(rf"^{re.escape(sample)} (\d+)", answer.read().decode(), re.MULTILINE)
        return int(found[1]) if found else 0

    def purchases(self, outcome: str) -> int:
        """How often a service account's secret was presented since the start, with this outcome."""
        return self.metric(f'doorward_client_credentials_total{{outcome="{outcome}"}}')

    def connections(self) -> int:
        """How many connections are open to the gRPC port, as the kernel counts them."""
        # gRPC's sockets may be of IPv6 with an address of IPv4 in them.
        rows = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
        return sum(row[2].endswith(f":{self.port:04X}") and row[3] == "01" for row in rows)


class People:
    """Two tenants with people in them, and their tokens, by the stubs."""

    def __init__(self, doorward: Doorward) -> None:
        command = doorward.command
        self.acme = str(command("tenant", "create", "--slug", "acme", "--name", "Acme", "--external-id", "a-1")["id"])
        self.globex = str(command("tenant", "create", "--slug", "globex", "--name", "Globex")["id"])
        command("role", "create", "--tenant", "acme", "--name", "seller", "--level", "10", "--permission", "sales:write")
        for name, role in [("ann", "seller"), ("bob", "member"), ("eve", "owner")]:
            command("user", "create", "--email", f"{name}@example.com", "--full-name", name, "--password-stdin", typed=PASSWORD)
            command("member", "add", "--tenant", "acme", "--user", f"{name}@example.com", "--role", role)
        command("user", "create", "--username", "new", "--password-stdin", "--must-change", typed=PASSWORD)
        self.target = doorward.target
        self.ann, self.bob, self.eve = (self.log_in(f"{name}@example.com") for name in ("ann", "bob", "eve"))
        self.new = self.log_in("new")

    def log_in(self, identifier: str, tenant: str = "") -> str:
        from doorward.v1 import auth_service_pb2 as pb
        from doorward.v1 import auth_service_pb2_grpc as stubs

        with grpc.insecure_channel(self.target) as channel:
            login = pb.LoginRequest(identifier=identifier, password=PASSWORD, tenant_id=tenant)
            answer = stubs.AuthServiceStub(channel).Login(login, timeout=10)
            return str(answer.tokens.access_token)

    def log_out(self, token: str) -> None:
        from doorward.v1 import auth_service_pb2 as pb
        from doorward.v1 import auth_service_pb2_grpc as stubs

        with grpc.insecure_channel(self.target) as channel:
            stubs.AuthServiceStub(channel).Logout(pb.LogoutRequest(access_token=token), timeout=10)


@contextmanager
def served(folder: Path, module: str, port: int, settings: dict[str, str]) -> Iterator[None]:
    with (folder / "backend.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", module, "--port", str(port), "--no-access-log"],
            cwd=folder, env={**clean_environment(), **settings}, stdout=log, stderr=log,
        )  # fmt: skip
    try:

        def listens() -> bool:
            check(f"{module} runs", process.poll() is None, (folder / "backend.log").read_text())
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/greeting")
                return connection.getresponse().status == 200
            except OSError:
                return False

        wait_until(f"{module} listens", START_LIMIT, listens)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def tokens(backend: Backend, people: People) -> None:
    greeting = "/greeting"
    for path in ("/me", f"/tenants/{people.acme}/sales"):
        method = "GET" if path == "/me" else "POST"
        backend.answers(401, "TOKEN_MISSING", method, path)
        backend.answers(401, "TOKEN_INVALID", method, path, "garbage")
        backend.answers(401, "TOKEN_INVALID", method, path, authorization="Basic YW5uOmFubg==")
        backend.answers(401, "TOKEN_INVALID", method, path, authorization="Bearer ")
        backend.answers(403, "PASSWORD_CHANGE_REQUIRED", method, path, people.new)
    backend.answers(200, "ann@example.com", "GET", "/me", people.ann)
    backend.answers(200, "stranger", "GET", greeting)
    backend.answers(200, "ann", "GET", greeting, people.ann)
    backend.answers(401, "TOKEN_INVALID", "GET", greeting, "garbage")
    backend.answers(401, "TOKEN_INVALID", "GET", greeting, authorization="Basic YW5uOmFubg==")
    backend.answers(401, "TOKEN_INVALID", "GET", greeting, authorization="Bearer")
    backend.answers(403, "PASSWORD_CHANGE_REQUIRED", "GET", greeting, people.new)
    over = people.log_in("ann@example.com")
    backend.answers(200, "ann@example.com", "GET", "/me", over)
    people.log_out(over)
    for path in ("/me", greeting):
        backend.answers(401, "SESSION_REVOKED", "GET", path, over)


def rights(backend: Backend, people: People, doorward: Doorward) -> None:
    sales = f"/tenants/{people.acme}/sales"
    backend.answers(200, people.acme, "POST", sales, people.ann)
    # What the client called the tenant is not what the backend goes on with.
    backend.answers(200, people.acme, "POST", "/tenants/ext:a-1/sales", people.ann)
    backend.answers(200, people.acme, "POST", sales, people.eve)
    backend.answers(403, "PERMISSION_MISSING", "POST", sales, people.bob)
    backend.answers(403, "ROLE_MISSING", "DELETE", sales, people.ann)
    backend.answers(200, people.acme, "DELETE", sales, people.eve)
    for foreign in (people.globex, "01890000-0000-7000-8000-000000000000"):
        backend.answers(403, "NOT_A_MEMBER", "POST", f"/tenants/{foreign}/sales", people.eve)
        backend.answers(403, "NOT_A_MEMBER", "DELETE", f"/tenants/{foreign}/sales", people.eve)
    backend.answers(400, "INVALID_FIELD", "POST", "/tenants/acme/sales", people.eve)
    if not backend.in_path:
        bound = people.log_in("eve@example.com", people.acme)
        for method, token in [("POST", people.eve), ("POST", bound), ("DELETE", bound)]:
            backend.answers(400, "INVALID_FIELD", method, "/sales", token)
    doorward.change("tenant", "suspend", "acme", "--yes")
    backend.answers(403, "TENANT_SUSPENDED", "POST", sales, people.ann)
    doorward.change("tenant", "activate", "acme")
    backend.answers(200, people.acme, "POST", sales, people.ann)


def unavailable(backend: Backend, people: People) -> None:
    for path in ("/me", "/greeting"):
        backend.answers(503, "UNAVAILABLE", "GET", path, people.ann)
    backend.answers(503, "UNAVAILABLE", "POST", f"/tenants/{people.acme}/sales", people.ann)
    # Who gives no token is a stranger whatever Doorward does.
    backend.answers(200, "stranger", "GET", "/greeting")
    backend.answers(401, "TOKEN_MISSING", "GET", "/me")


def outages(backend: Backend, people: People, doorward: Doorward) -> None:
    doorward.signal(signal.SIGSTOP)
    try:
        unavailable(backend, people)
    finally:
        doorward.signal(signal.SIGCONT)
    backend.answers(200, "ann", "GET", "/greeting", people.ann)
    doorward.stop()
    unavailable(backend, people)
    doorward.start()
    wait_until(f"{backend.name} finds Doorward again", LONGEST_PAUSE, lambda: backend.ask("GET", "/me", people.ann).status == 200)


def at_once(backend: Backend, people: People, status: int) -> None:
    with futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: backend.ask("GET", "/me", people.ann).status, range(40)))
    check(f"{backend.name}: 40 requests at once are answered {status}", answers == [status] * 40, answers)


def one_channel(backend: Backend, people: People, doorward: Doorward) -> None:
    at_once(backend, people, 200)
    check(f"{backend.name}: one connection to Doorward", doorward.connections() == 1, doorward.connections())


def known(backend: Backend, people: People) -> None:
    """What a backend that is let in answers to good tokens and to bad ones."""
    backend.answers(200, "ann@example.com", "GET", "/me", people.ann)
    backend.answers(200, people.acme, "POST", f"/tenants/{people.acme}/sales", people.ann)
    backend.answers(401, "TOKEN_INVALID", "GET", "/me", "garbage")


def unknown(backend: Backend, people: People, status: int, reason: str) -> None:
    """What a backend that is not let in answers, whatever the token: none of it is its clients' fault."""
    for token in (people.ann, "garbage"):
        for path in ("/me", "/greeting"):
            backend.answers(status, reason, "GET", path, token)
    backend.answers(status, reason, "POST", f"/tenants/{people.acme}/sales", people.ann)


def bought_once(backend: Backend, people: People, doorward: Doorward) -> None:
    """However many requests come at once to a backend that has no token yet."""
    at_once(backend, people, 200)
    known(backend, people)
    check(f"{backend.name}: one token is bought", doorward.purchases("issued") == 1, doorward.purchases("issued"))
    # One channel for the calls, and one for the purchases.
    check(f"{backend.name}: two connections to Doorward", doorward.connections() == 2, doorward.connections())


def revoked(backend: Backend, people: People, doorward: Doorward) -> None:
    """The kept token is revoked and the secret is not: another token is bought, long before the old one would expire."""
    doorward.command("service-account", "disable", "web", "--yes")
    doorward.change("service-account", "enable", "web")
    backend.answers(500, "CALLER_UNAUTHENTICATED", "GET", "/me", people.ann)
    wait_until(f"{backend.name} buys another token", LONGEST_PAUSE, lambda: backend.ask("GET", "/me", people.ann).status == 200)
    check(f"{backend.name}: one more token is bought", doorward.purchases("issued") == 2, doorward.purchases("issued"))


def presented_rarely(backend: Backend, people: People, doorward: Doorward) -> None:
    """A secret that is refused is not presented again for every request."""
    from doorward_client import PURCHASE_PAUSE

    start = time.monotonic()
    unknown(backend, people, 503, "UNAVAILABLE")
    at_once(backend, people, 503)
    refused, most = doorward.purchases("refused"), 1 + (time.monotonic() - start) / PURCHASE_PAUSE
    check(f"{backend.name}: a wrong secret is presented now and then", 1 <= refused <= most, f"{refused} times, of at most {most}")


def renewed(backend: Backend, people: People, doorward: Doorward) -> None:
    """A token that cannot be bought is an outage like any other, and heals like one. Then there always is a good one."""
    from doorward_client import RENEW_AFTER

    lifetime = 2
    doorward.environment["DOORWARD__TOKENS__ACCESS_LIFETIME"] = f"{lifetime}s"
    unavailable(backend, people)
    doorward.start()
    del doorward.environment["DOORWARD__TOKENS__ACCESS_LIFETIME"]
    wait_until(f"{backend.name} buys a token", LONGEST_PAUSE, lambda: backend.ask("GET", "/me", people.ann).status == 200)
    start = time.monotonic()
    while time.monotonic() < start + 3 * lifetime:
        backend.answers(200, "ann@example.com", "GET", "/me", people.ann)
        time.sleep(0.05)
    # The answers alone would not tell: Doorward's leeway for clocks is longer than these tokens live.
    bought, wanted = doorward.purchases("issued"), 1 + int(3 / RENEW_AFTER)
    check(f"{backend.name}: {wanted} tokens are bought in 3 lifetimes, each before the last expires", bought == wanted, bought)


def proofs(folder: Path, port: int, people: People, doorward: Doorward, certificates: Path) -> None:
    """Backends that prove who they are, by a secret or by a client certificate, and backends that do not."""
    names = ["--name", "web", "--certificate", "spiffe://prod/ns/shop/sa/web"]
    account = str(doorward.command("service-account", "create", *names, "--secret-file", "secret")["id"])
    files = {file.name: str(file) for file in certificates.iterdir()}
    tls = {"AUTH_TARGET": doorward.target, "AUTH_CA_FILE": files["ca.crt"]}
    secret = {"AUTH_CLIENT_ID": account, "AUTH_CLIENT_SECRET": (doorward.folder / "secret").read_text()}
    web, nobody = ({"AUTH_CERT_FILE": files[f"{who}.crt"], "AUTH_KEY_FILE": files[f"{who}.key"]} for who in ("web", "nobody"))
    doorward.demand_callers(certificates)

    for title, module, in_path in EXAMPLES:
        backend = Backend(title, port, in_path)
        doorward.start()
        with served(folder, module, port, tls | secret):
            bought_once(backend, people, doorward)
            revoked(backend, people, doorward)
        with served(folder, module, port, tls | web):
            known(backend, people)
        for stranger in ({}, nobody):
            with served(folder, module, port, tls | stranger):
                unknown(backend, people, 500, "CALLER_UNAUTHENTICATED")
        with served(folder, module, port, tls | secret | {"AUTH_CA_FILE": files["stranger.crt"]}):
            unknown(backend, people, 503, "UNAVAILABLE")
        check(f"{title}: a server that is not trusted hears no secret", doorward.purchases("issued") == 2, doorward.purchases("issued"))
        with served(folder, module, port, tls | secret | {"AUTH_CLIENT_SECRET": "wrong"}):
            presented_rarely(backend, people, doorward)
        doorward.stop()
        with served(folder, module, port, tls | secret):
            renewed(backend, people, doorward)
        doorward.stop()
        print(f"ok: {title}: TLS, callers by secret and by certificate, strangers, a token revoked and renewed", flush=True)


def refuses_to_start(folder: Path, certificates: Path) -> None:
    """Settings of a backend that are a mistake, and what it says of them."""
    ca, crt, key = (str(certificates / name) for name in ("ca.crt", "web.crt", "web.key"))
    for settings, said in [
        ({"AUTH_CLIENT_ID": "i", "AUTH_CLIENT_SECRET": "s"}, "AUTH_CLIENT_SECRET needs AUTH_CA_FILE"),
        ({"AUTH_CERT_FILE": crt, "AUTH_KEY_FILE": key}, "AUTH_CERT_FILE needs AUTH_CA_FILE"),
        ({"AUTH_CA_FILE": ca, "AUTH_CERT_FILE": crt}, "AUTH_CERT_FILE and AUTH_KEY_FILE belong together"),
        ({"AUTH_CA_FILE": ca, "AUTH_KEY_FILE": key}, "AUTH_CERT_FILE and AUTH_KEY_FILE belong together"),
        ({"AUTH_CA_FILE": ca, "AUTH_CLIENT_SECRET": "s"}, "AUTH_CLIENT_ID and AUTH_CLIENT_SECRET belong together"),
        ({"AUTH_CA_FILE": ca, "AUTH_CLIENT_ID": "i"}, "AUTH_CLIENT_ID and AUTH_CLIENT_SECRET belong together"),
        ({"AUTH_CA_FILE": ""}, "AUTH_CA_FILE is empty"),
        ({"AUTH_CA_FILE": "nowhere"}, "AUTH_CA_FILE cannot be read: [Errno 2] No such file or directory: 'nowhere'"),
    ]:
        done = subprocess.run(
            [sys.executable, "-c", "import doorward_client"],
            cwd=folder, env={**clean_environment(), **settings}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        check(f"{settings} is refused: {said}", done.returncode != 0 and said in done.stderr.splitlines()[-1], done.stderr)


def tables_agree() -> None:
    """Every reason of the contract stands once in the README's table, and the examples answer what that says."""
    from doorward.v1 import errors_pb2
    from doorward_client import HTTP

    prefix = "ERROR_REASON_"
    catalogue = {name.removeprefix(prefix) for name in errors_pb2.ErrorReason.keys()} - {"UNSPECIFIED"}
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \| (\d{3}) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    table = Counter(reason for reasons, _ in rows for reason in re.findall(r"`([A-Z_]+)`", reasons))
    wrong = sorted(reason for reason in catalogue | table.keys() if table[reason] != (reason in catalogue))
    check("README.md's table has every reason of errors.proto once, and no other", not wrong, wrong)
    said = {reason: int(status) for reasons, status in rows for reason in re.findall(r"`([A-Z_]+)`", reasons)}
    check("doorward_client.HTTP is README.md's table", said == HTTP, set(said.items()) ^ set(HTTP.items()))


def repeats_only_what_is_safe(port: int) -> None:
    """Counts the attempts that arrive at a server that refuses everything."""
    from doorward.v1 import auth_service_pb2 as pb
    from doorward.v1 import auth_service_pb2_grpc as stubs
    from doorward_client import OPTIONS, refusal

    logging.getLogger("doorward_client").setLevel(logging.CRITICAL)
    attempts: Counter[str] = Counter()

    class Refuses(grpc.GenericRpcHandler):
        def service(self, call: Any) -> Any:
            def refuse(_: bytes, context: Any) -> None:
                name = call.method.rsplit("/", 1)[1]
                attempts[name] += 1
                context.abort(code, "refused")

            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Refuses()])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    with grpc.insecure_channel(f"dns:///127.0.0.1:{port}", options=OPTIONS) as channel:
        auth = stubs.AuthServiceStub(channel)
        for code, method, request, status, wanted in [
            (grpc.StatusCode.UNAVAILABLE, "ValidateSession", pb.ValidateSessionRequest(), 503, 3),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, "ValidateSession", pb.ValidateSessionRequest(), 503, 1),
            (grpc.StatusCode.UNAUTHENTICATED, "ValidateSession", pb.ValidateSessionRequest(), 500, 1),
            (grpc.StatusCode.UNAVAILABLE, "Login", pb.LoginRequest(), 503, 1),
            (grpc.StatusCode.UNAVAILABLE, "ChangePassword", pb.ChangePasswordRequest(), 503, 1),
            (grpc.StatusCode.UNAVAILABLE, "IssueToken", pb.IssueTokenRequest(), 503, 1),
        ]:
            attempts.clear()
            try:
                getattr(auth, method)(request, timeout=5)
                die(f"{method} was answered")
            except grpc.RpcError as error:
                answer = refusal(error)
            check(f"{method} with {code.name} is tried {wanted} times", attempts[method] == wanted, attempts)
            check(f"{method} with {code.name} and no reason answers {status}", answer.status == status, answer)
    server.stop(None)


def connects_again_soon(port: int) -> None:
    """Times the attempts to connect to a server that hangs up on each: the pauses between them grow, but not for long."""
    from doorward_client import OPTIONS

    arrivals: list[float] = []
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(LONGEST_PAUSE)
        with grpc.insecure_channel(f"dns:///127.0.0.1:{port}", options=OPTIONS) as channel:
            channel.subscribe(lambda _: None, try_to_connect=True)
            while len(arrivals) < 8:
                try:
                    listener.accept()[0].close()
                except TimeoutError:
                    die(f"no attempt to connect came for {LONGEST_PAUSE} s, after {len(arrivals)} others")
                arrivals.append(time.monotonic())


def main() -> None:
    certificates, ports = Path(sys.argv[1]), [int(port) for port in sys.argv[2:]]
    with tempfile.TemporaryDirectory() as name:
        folder, data = Path(name) / "backend", Path(name) / "doorward"
        shutil.copytree(ROOT / "deploy/examples/python", folder)
        data.mkdir()
        protos = sorted(str(proto) for proto in (ROOT / "proto/doorward/v1").glob("*.proto"))
        stubs = ["-I", str(ROOT / "proto"), f"--python_out={folder}", f"--grpc_python_out={folder}", *protos]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *stubs], check=True)
        sys.path.insert(0, str(folder))

        tables_agree()
        print("ok: the reasons of errors.proto, README.md and doorward_client.py are the same")
        repeats_only_what_is_safe(ports[4])
        print("ok: only ValidateSession is repeated, and only when it is UNAVAILABLE")
        connects_again_soon(ports[4])
        print("ok: a channel that lost its server tries again soon")
        refuses_to_start(folder, certificates)
        print("ok: settings that are a mistake are refused")
        doorward = Doorward(data, ports[:3])
        try:
            doorward.start()
            people = People(doorward)
            for title, module, in_path in EXAMPLES:
                with served(folder, module, ports[3], {"AUTH_TARGET": doorward.target}):
                    backend = Backend(title, ports[3], in_path)
                    tokens(backend, people)
                    rights(backend, people, doorward)
                    one_channel(backend, people, doorward)
                    outages(backend, people, doorward)
                    print(f"ok: {title}: tokens, rights, one channel, outages", flush=True)
            doorward.stop()
            proofs(folder, ports[3], people, doorward, certificates)
        except SystemExit:
            for log in (data / "server.log", folder / "backend.log"):
                if log.exists():
                    print(f"--- {log.name}\n{log.read_text()[-10000:]}\n---", file=sys.stderr)
            raise
        finally:
            if doorward.process is not None:
                doorward.process.kill()
                doorward.process.wait()


if __name__ == "__main__":
    main()
