"""Runs every recipe of README.md as written, from a clean folder, against a real server on SQLite and then on PostgreSQL.

A recipe is a fence of the README. What is special about one says an HTML comment above it, `<!-- recipe: WORD; WORD -->`:

    (no comment)        an `sh` fence runs, on both databases, and every command in it must succeed; any other fence needs a comment
    skip (WHY)          is not run, for this reason
    sqlite | postgres   is for this database only
    server              starts the server: comes before all other recipes of its database; see STANDS_IN
    fails               its last command must fail
    file PATH           is not run but written to this file, as the text above it asks the reader to do
    output              is not run: its lines must occur, in this order, in what the recipe above it wrote; `…` stands for anything
    answers TEXT        runs at a terminal, where each question is answered with this text
    NAME stands for X   NAME is written for the reader to replace; here by X

All recipes of a database run in one shell, in the order of the page, as a reader would type them; the folder is a copy of what git
knows. `.ci/recipes` prepares the tools and a network where the default ports are free.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from servers import START_LIMIT, STOP_LIMIT, clean_environment, die, is_ready, postgres, wait_until

OPS_ADDR = "127.0.0.1:9090"
PORTS = [50051, 8080, 9090]
DATABASES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
# Seconds that one recipe may take.
LIMIT = 180
# What the lines of a `server` fence are replaced by: `.ci/run` has built the program and run the tests in steps of their own.
STANDS_IN = {"cargo run --release": "target/release/doorward", "doorward serve": "doorward serve", "cargo test --workspace": None}
# The password of the README's PostgreSQL.
POSTGRES_PASSWORD = "secret"


@dataclass
class Fence:
    """A fence of the README with the words of its comment."""

    line: int  # Of its first line of text.
    section: str
    language: str
    text: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def word(self, name: str) -> str | None:
        """What follows a word of the comment; None where the word is not there."""
        found = [word[len(name) :].strip() for word in self.words if re.match(rf"{name}\b", word)]
        return found[0] if found else None

    def has(self, name: str) -> bool:
        return self.word(name) is not None

    def is_for(self, database: str) -> bool:
        return all(not self.has(other) for other in DATABASES if other != database)

    def source(self) -> str:
        """The text with what stands for something replaced, at the same lines as in the README, so that bash names those."""
        text = "\n".join(self.text) + "\n"
        for word in self.words:
            if " stands for " in word:
                name, value = word.split(" stands for ")
                if name not in text:
                    self.wrong(f"nothing here says {name}")
                text = text.replace(name, value)
        return text

    def wrong(self, message: str) -> NoReturn:
        die(f"README.md:{self.line}: {message}")


KNOWN = re.compile(r"skip \(.+\)|sqlite|postgres|server|fails|file \S+|output|answers .+|\S+ stands for \S+")


def fences(readme: str) -> list[Fence]:
    """Every fence, checked: whatever is neither run nor looked at must say why."""
    found: list[Fence] = []
    words: list[str] = []
    section, inside = "", None
    for number, line in enumerate(readme.splitlines(), 1):
        if inside is not None:
            if line.startswith("```"):
                inside = None
            else:
                inside.text.append(line)
        elif line.startswith("```"):
            inside = Fence(number + 1, section, line[3:].strip(), words=words)
            found.append(inside)
            words = []
        elif comment := re.fullmatch(r"<!-- recipe: (.*) -->", line):
            words = [word.strip() for word in comment[1].split(";")]
            for word in words:
                if not KNOWN.fullmatch(word):
                    die(f"README.md:{number}: there is no such word for a recipe: {word} (the list is in .ci/recipes.py)")
        elif line.strip():
            if words:
                die(f"README.md:{number}: a recipe's comment stands directly above its fence")
            if line.startswith("## "):
                section = line[3:]
    for fence in found:
        told = fence.has("skip") or fence.has("file") or fence.has("output")
        if fence.language != "sh" and not told:
            fence.wrong("a fence that is no `sh` needs a comment: `<!-- recipe: output -->`, `… file PATH -->` or `… skip (WHY) -->`")
        if fence.language == "sh" and fence.has("output"):
            fence.wrong("`output` is for what a recipe writes: use ```text or ```json")
    return found


class Shell:
    """One bash that runs recipe after recipe and keeps its variables."""

    def __init__(self, folder: Path, scratch: Path, environment: dict[str, str]) -> None:
        self.page, self.out = scratch / "README.md", scratch / "out"
        self.told, write = os.pipe()
        self.bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], stdin=subprocess.PIPE, cwd=folder, env=environment, pass_fds=[write], start_new_session=True
        )
        os.close(write)
        self.write = write

    def run(self, fence: Fence, text: str, must_fail: bool = False, limit: int = LIMIT) -> str:
        """Runs a text that stands at the fence's line; answers what it wrote."""
        self.page.write_text("\n" * (fence.line - 1) + text)
        self.out.write_text("")
        how = "+e" if must_fail else "-e"
        script = (
            f"trap 'echo \"failed at $LINENO with $?\" >&{self.write}' ERR\n"
            f"set {how} -o pipefail\n"
            f"{{ . '{self.page}'; }} >>'{self.out}' 2>&1 </dev/null; status=$?\n"
            f"set +e; trap - ERR; echo \"done $status\" >&{self.write}\n"
        )
        said = self.tell(script, limit)
        failures = [line for line in said if line.startswith("failed")]
        output = self.out.read_text().replace(str(self.page), "README.md")
        if not said or not said[-1].startswith("done"):
            where = re.search(r"failed at (\d+) with (\d+)", failures[0]) if failures else None
            line, status = (where[1], where[2]) if where else (fence.line, "none: it took too long or ended the shell")
            die(f"README.md:{line}: the recipe failed, exit code {status}:\n{output}")
        if must_fail and said[-1] == "done 0":
            fence.wrong(f"the recipe should have failed, and did not:\n{output}")
        return output

    def tell(self, script: str, limit: int) -> list[str]:
        """Gives bash some lines; answers what it said until it is done or gone."""
        assert self.bash.stdin is not None
        self.bash.stdin.write(script.encode())
        self.bash.stdin.flush()
        said = b""
        while not re.search(rb"^done \d+\n", said, re.MULTILINE):
            readable, _, _ = select.select([self.told], [], [], limit)
            more = os.read(self.told, 4096) if readable else b""
            if not more:
                break
            said += more
        return said.decode().splitlines()

    def kill(self) -> None:
        os.killpg(self.bash.pid, signal.SIGKILL)
        self.bash.wait()


class Run:
    """All recipes on one database."""

    def __init__(self, database: str, root: Path, scratch: Path) -> None:
        self.database, self.scratch = database, scratch
        self.log = scratch / "server.log"
        self.ran: dict[str, int] = {}
        folder, home = scratch / "doorward", scratch / "home"
        copy_of_the_clone(root, folder)
        home.mkdir()
        path = [os.environ["RECIPE_PATH"], os.environ["PATH"]]
        if database == "postgres":
            # On SQLite the README's own line must do.
            path.insert(0, str(folder / "target/release"))
        environment = {**clean_environment(), "HOME": str(home), "PATH": ":".join(path)}
        self.shell = Shell(folder, scratch, environment)

    def all(self, recipes: list[Fence]) -> None:
        servers = [fence for fence in recipes if fence.has("server") and fence.is_for(self.database)]
        if not servers:
            die(f"no recipe of README.md starts a server on {DATABASES[self.database]}")
        for fence in servers:
            self.serve(fence)
            self.did(fence)
        output = ""
        for fence in recipes:
            if fence.has("skip") or fence.has("server") or not fence.is_for(self.database):
                continue
            if fence.has("file"):
                self.shell.run(fence, self.written(fence))
            elif fence.has("output"):
                compare(fence, output)
            elif answer := fence.word("answers"):
                self.shell.page.with_name("typed").write_text(fence.source())
                output = self.shell.run(fence, f"python3 '{__file__}' --at-terminal '{self.scratch / 'typed'}' '{answer}'\n")
            else:
                output = self.shell.run(fence, fence.source(), fence.has("fails"))
            self.did(fence)
        self.stop()

    def did(self, fence: Fence) -> None:
        print(f"ok: README.md:{fence.line}, {fence.section}", flush=True)
        self.ran[fence.section] = self.ran.get(fence.section, 0) + 1

    def written(self, fence: Fence) -> str:
        source = self.scratch / "written"
        source.write_text(fence.source())
        return f"mkdir -p \"$(dirname '{fence.word('file')}')\" && cp '{source}' '{fence.word('file')}'\n"

    def serve(self, fence: Fence) -> None:
        before, command = [], None
        for line in fence.source().splitlines():
            known = line.split("#")[0].strip()
            if known not in STANDS_IN:
                before.append(line)
            elif STANDS_IN[known] is not None:
                command = STANDS_IN[known]
        if command is None:
            fence.wrong(f"a `server` recipe has one of: {', '.join(key for key, value in STANDS_IN.items() if value)}")
        self.shell.run(fence, "\n".join(before) + "\n")
        # Another server here would be taken for this one.
        for port in PORTS:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    die(f"the port {port} of 127.0.0.1 is taken: the recipes need {PORTS}, free or in a network of their own")
        pid = self.shell.run(fence, f"{command} >'{self.log}' 2>&1 </dev/null {self.shell.write}>&- &\nserver=$!; echo $server\n").strip()

        def serves() -> bool:
            # Bash, whose child it is, has waited for it.
            if not Path(f"/proc/{pid}").exists():
                fence.wrong("the server ended before it was ready")
            return is_ready(OPS_ADDR)

        wait_until("the server becomes ready", START_LIMIT, serves)

    def stop(self) -> None:
        output = self.shell.run(Fence(1, "", "sh"), "kill -TERM $server\nwait $server\n", limit=STOP_LIMIT)
        if output or "panicked at" in self.log.read_text():
            die(f"the server did not end well: {output}")


def compare(fence: Fence, output: str) -> None:
    """Demands that the fence's lines occur in an output in their order. How JSON is spaced is left open, as protobuf leaves it."""
    lines = iter([" ".join(line.split()) for line in output.splitlines()])
    for number, wanted in enumerate(fence.text, fence.line):
        wanted = " ".join(wanted.split())
        pattern = ".*".join(re.escape(part) for part in wanted.split("…"))
        if wanted and not any(re.fullmatch(pattern, line) for line in lines):
            die(f"README.md:{number}: the recipe above did not write this line (or not in this order): {wanted}\nbut:\n{output}")


def copy_of_the_clone(root: Path, folder: Path) -> None:
    """What git knows, as it stands in the work tree, and the built binary where `cargo build --release` puts it."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, check=True)
    for name in listed.stdout.decode().split("\0"):
        if name and (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    (folder / "target/release").mkdir(parents=True)
    (folder / "target/release/doorward").symlink_to(os.environ["DOORWARD"])


def at_terminal(script: str, answer: str) -> int:
    """Runs a script at a terminal, and answers each question (what ends in a colon and a space) with the same text."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvp("bash", ["bash", "-e", script])
    shown = b""
    while True:
        try:
            more = os.read(terminal, 4096)
        except OSError:  # How Linux says that nobody has the terminal open any more.
            break
        shown += more
        if more.endswith(b": "):
            os.write(terminal, answer.encode() + b"\n")
    sys.stdout.write(shown.decode())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def recipes_on(database: str, root: Path, recipes: list[Fence]) -> dict[str, int]:
    print(f"--- {DATABASES[database]}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        scratch.chmod(0o755)  # PostgreSQL's own user must get through.
        run = Run(database, root, scratch)
        try:
            if database == "postgres":
                with postgres(scratch / "postgres", Path(os.environ["POSTGRES_BIN"]), 5432, POSTGRES_PASSWORD):
                    run.all(recipes)
            else:
                run.all(recipes)
        except SystemExit:
            if run.log.exists():
                print(f"--- the server's log\n{run.log.read_text()[-20000:]}\n---", file=sys.stderr)
            raise
        finally:
            run.shell.kill()
            # Go leaves its files read-only.
            subprocess.run(["chmod", "-R", "u+w", str(scratch)], check=False)
        return run.ran


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    readme = Path(os.environ.get("RECIPES_OF", root / "README.md"))
    recipes = fences(readme.read_text())
    report = []
    for database, name in DATABASES.items():
        ran = recipes_on(database, root, recipes)
        report.append(f"{name}: " + ", ".join(f"{section} ({count})" for section, count in ran.items()))
    report += [f"not run: README.md:{fence.line} {fence.word('skip')}" for fence in recipes if fence.has("skip")]
    print("\n".join(report))
    if told := os.environ.get("RECIPES_REPORT"):
        Path(told).write_text("".join(f"  {line}\n" for line in report))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--at-terminal"]:
        sys.exit(at_terminal(*sys.argv[2:4]))
    main()
