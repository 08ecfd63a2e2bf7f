"""A stand-in for the W&B server on loopback, for tests only: grid sweeps, agents, runs, histories.

It answers what ``wandb sweep``, ``wandb agent``, ``wandb sync`` and a run ask of the server (wandb
0.26 to 0.31) and does with sweeps what W&B's server is documented to do:

* The grid is walked in alphabetical order. A point is taken as soon as a run of the sweep has its
  values, whatever became of that run.
* A run that ends with an exit code but 0 has failed. One that was marked as preempting and so ends
  is queued, and the next agent that asks gets it again, with its whole configuration as arguments.
* A run that falls silent has crashed, or was preempted if it was marked (``lapse``).
* A run that the server ends early (``is_stopped``) is ended by its agent, and by itself.
* A stopped sweep lets runs finish and starts no others; a cancelled one stops them.

Whatever else is asked gets 404 and is kept in ``unknown``; what a proxy was asked for, because
somebody wanted to leave the machine, is kept in ``beyond``.
"""

import contextlib
import gzip
import itertools
import json
import re
import socket
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import wandb_artifacts
import wandb_projects
import yaml
from wandb_projects import ENTITY, coded, resumed

Json = dict[str, Any]
OVER: Final = ("FINISHED", "CANCELED")


@dataclass
class WandbRun:
    """A run as the server knows it.

    Attributes:
        name: Its id, given by the server in a sweep.
        state: pending, running, finished, failed, crashed or preempted.
        config: As W&B keeps it, ``{"lr": {"value": 0.1}}``.
        history: Logged rows in order.
        starts: How often a process began to log to it.
        given: How often an agent was told to start it.
        about: Group, job type, tags and display name.
    """

    name: str
    project: str
    sweep: str | None = None
    entity: str = ENTITY
    state: str = "pending"
    config: Json = field(default_factory=dict)
    summary: Json = field(default_factory=dict)
    history: list[Json] = field(default_factory=list)
    exit_code: int | None = None
    is_preempting: bool = False
    is_stopped: bool = False
    starts: int = 0
    given: int = 0
    about: Json = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether it may still become something."""
        return self.state in ("pending", "running", "preempted")

    def end(self, exit_code: int | None) -> None:
        """Note how it ended: with an exit code, or by silence."""
        self.exit_code = exit_code
        if exit_code == 0:
            self.state = "finished"
        elif self.is_preempting:
            self.state = "preempted"
        else:
            self.state = "crashed" if exit_code is None else "failed"


@dataclass
class WandbSweep:
    """A sweep as the server knows it; ``queue`` holds preempted runs that wait for an agent."""

    name: str
    project: str
    config: str = ""
    state: str = "PENDING"
    entity: str = ENTITY
    runs: list[WandbRun] = field(default_factory=list)
    queue: deque[WandbRun] = field(default_factory=deque)

    def next_point(self) -> Json | None:
        """Return the first grid point of which there is no run yet."""
        parameters = yaml.safe_load(self.config)["parameters"]
        names = sorted(parameters)
        values = [parameters[n].get("values") or [parameters[n]["value"]] for n in names]
        varied = [name for name in names if "values" in parameters[name]]
        taken = [[value_of(run.config, name) for name in varied] for run in self.runs]
        for point in itertools.product(*values):
            found = dict(zip(names, point, strict=True))
            if [found[name] for name in varied] not in taken:
                return {name: {"value": value} for name, value in found.items()}
        return None


def value_of(config: Json, name: str) -> Any:
    """Return a value of a run's configuration, None where there is none."""
    return config.get(name, {}).get("value")


class State:
    """What the server knows; it outlives a server that dies.

    Attributes:
        views: Reports, as they were saved.
        unknown: Operations and paths that were asked for in vain.
        beyond: Addresses that somebody tried to reach through the proxy.
        lock: Held for every request.
    """

    def __init__(self) -> None:
        self.sweeps: dict[str, WandbSweep] = {}
        self.runs: dict[str, WandbRun] = {}
        self.agents: dict[str, WandbSweep] = {}
        self.artifacts: list[wandb_artifacts.WandbArtifact] = []
        self.files: dict[str, bytes] = {}
        self.views: list[Json] = []
        self.unknown: list[str] = []
        self.beyond: list[str] = []
        self.lock = threading.RLock()

    def lapse(self) -> None:
        """Let five minutes pass in which no open run says anything."""
        with self.lock:
            for run in self.runs.values():
                if run.state in ("pending", "running"):
                    self._end(run, None)

    def _end(self, run: WandbRun, exit_code: int | None) -> None:
        """End a run; queue it again if it was preempted."""
        run.end(exit_code)
        if run.state == "preempted" and run.sweep is not None:
            self.sweeps[run.sweep].queue.append(run)

    def viewer(self, asked: Json) -> Json:
        who = {"id": "u", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}"}
        return {"viewer": {**who, "teams": {"edges": []}}}

    def organization(self, asked: Json) -> Json:
        return {"entity": {"organization": None}}

    def features(self, asked: Json) -> Json:
        return {"serverInfo": {"features": []}}

    def upsert_sweep(self, asked: Json) -> Json:
        sweep = next((s for s in self.sweeps.values() if coded(s.name) == asked.get("id")), None)
        if sweep is None:
            sweep = WandbSweep(uuid.uuid4().hex[:8], asked["projectName"])
            self.sweeps[sweep.name] = sweep
        sweep.config = asked.get("config") or sweep.config
        sweep.state = asked.get("state") or sweep.state
        found = {"name": sweep.name, "project": in_project(sweep)}
        return {"upsertSweep": {"sweep": found, "configValidationWarnings": []}}

    def sweep_with_runs(self, asked: Json) -> Json:
        sweep = self.sweeps.get(asked["sweep"])
        if sweep is None:
            return {"project": {"sweep": None}}
        known = {"id": coded(sweep.name), "name": sweep.name, "state": sweep.state}
        return {"project": {"sweep": {**known, "config": sweep.config, "runs": {"edges": []}}}}

    def create_agent(self, asked: Json) -> Json:
        name = coded(uuid.uuid4().hex)
        self.agents[name] = self.sweeps[asked["sweep"]]
        return {"createAgent": {"agent": {"id": name}}}

    def heartbeat(self, asked: Json) -> Json:
        busy = json.loads(asked.get("runState") or "{}")
        commands = self.orders(self.agents[asked["id"]], list(busy))
        answer = {"agent": {"id": asked["id"]}, "commands": json.dumps(commands)}
        return {"agentHeartbeat": answer}

    def orders(self, sweep: WandbSweep, busy: list[str]) -> list[Json]:
        """Return what an agent with these runs under way is told."""
        if busy:
            all_end = sweep.state == "CANCELED"
            ended = [name for name in busy if all_end or self.runs[name].is_stopped]
            return [{"type": "stop", "run_id": name} for name in ended]
        if sweep.state == "PAUSED":
            return []
        if sweep.state not in OVER:
            sweep.state = "RUNNING"
            if sweep.queue:
                return [order("resume", sweep.queue.popleft())]
            if (point := sweep.next_point()) is not None:
                run = WandbRun(uuid.uuid4().hex[:8], sweep.project, sweep.name, config=point)
                sweep.runs.append(run)
                self.runs[run.name] = run
                return [order("run", run)]
            if not any(run.is_open for run in sweep.runs):
                sweep.state = "FINISHED"
        return [{"type": "exit"}]

    def resume_status(self, asked: Json) -> Json:
        run = self.runs.get(asked["name"])
        project = {"id": coded(asked["project"]), "name": asked["project"]}
        bucket = None if run is None or not run.starts else resumed(run)
        return {"model": {**project, "entity": {"id": "e", "name": ENTITY}, "bucket": bucket}}

    def stopped(self, asked: Json) -> Json:
        run = self.runs[asked["run"]]
        return {"project": {"run": {"stopped": run.is_stopped, "shouldStop": run.is_stopped}}}

    def upsert_bucket(self, asked: Json) -> Json:
        run = next((r for r in self.runs.values() if coded(r.name) == asked.get("id")), None)
        is_new = run is None and asked["name"] not in self.runs
        if run is None:
            new = WandbRun(asked["name"], asked["project"], asked.get("sweep"))
            run = self.runs.setdefault(asked["name"], new)
            if run.state != "running":  # else its configuration changed
                run.starts += 1
                run.state, run.exit_code, run.is_preempting = "running", None, False
            if new is run and new.sweep in self.sweeps:
                self.sweeps[new.sweep].runs.append(run)
        run.config = json.loads(asked["config"]) if asked.get("config") else run.config
        for name in ("groupName", "jobType", "tags", "displayName"):
            if asked.get(name):
                run.about[name] = asked[name]
        known = {"id": coded(run.name), "name": run.name, "sweepName": run.sweep, "config": "{}"}
        known |= {"displayName": run.about.get("displayName"), "description": None}
        known |= {"project": in_project(run), "historyLineCount": len(run.history)}
        return {"upsertBucket": {"bucket": known, "inserted": is_new}}

    def create_run_files(self, asked: Json) -> Json:
        run = asked["run"]
        files = [
            {"name": f, "uploadUrl": f"{asked['base']}/storage/{run}/{f}"} for f in asked["files"]
        ]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}

    def stream(self, name: str, body: Json) -> None:
        """Take what a run logs: history from an offset on, summary, its end."""
        run = self.runs[name]
        for file, part in (body.get("files") or {}).items():
            rows = part.get("content") or []
            if file == "wandb-history.jsonl":
                run.history[part["offset"] :] = map(json.loads, rows)
            elif file == "wandb-summary.json" and rows:
                run.summary = json.loads(rows[-1])
        run.is_preempting |= bool(body.get("preempting"))
        if body.get("complete"):
            self._end(run, body.get("exitcode"))


OPERATIONS: Final[Mapping[str, Callable[[State, Json], Json]]] = {
    "Viewer": State.viewer,
    "GetDefaultEntity": State.viewer,
    "{ viewer { id } }": State.viewer,
    "OrganizationCoreWeaveOrganizationID": State.organization,
    "ServerFeaturesQuery": State.features,
    "UpsertSweep": State.upsert_sweep,
    "SweepWithRuns": State.sweep_with_runs,
    "CreateAgent": State.create_agent,
    "Heartbeat": State.heartbeat,
    "RunResumeStatus": State.resume_status,
    "UpsertBucket": State.upsert_bucket,
    "Stopped": State.stopped,
    "CreateRunFiles": State.create_run_files,
    **wandb_artifacts.OPERATIONS,
    **wandb_projects.OPERATIONS,
}


def in_project(thing: WandbRun | WandbSweep) -> Json:
    """Return project and entity as the server names them."""
    entity = {"id": coded(thing.entity), "name": thing.entity}
    return {"id": coded(thing.project), "name": thing.project, "entity": entity}


def order(kind: str, run: WandbRun) -> Json:
    """Return the command that makes an agent start a run."""
    run.given += 1
    return {"type": kind, "run_id": run.name, "program": None, "args": run.config}


class Handler(BaseHTTPRequestHandler):
    """HTTP in front of the state."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep quiet."""

    def answer(self, content: Json, code: int = 200) -> None:
        self.send(json.dumps(content).encode(), code)

    def send(self, body: bytes, code: int = 200) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, asked: str) -> None:
        self.server.state.unknown.append(asked)
        self.answer({"errors": [{"message": f"unknown: {asked}"}]}, 404)

    def body(self) -> bytes:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(content) if self.headers["Content-Encoding"] == "gzip" else content

    def do_POST(self) -> None:
        body = self.body()
        state = self.server.state
        if self.path == "/graphql":
            return self.answer_graphql(json.loads(body))
        found = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
        if found is None or found[1] not in state.runs:
            return self.refuse(self.path)
        with state.lock:
            state.stream(found[1], json.loads(body))
        return self.answer({"stopped": state.runs[found[1]].is_stopped})

    def answer_graphql(self, body: Json) -> None:
        found = re.search(r"(?:query|mutation)\s+(\w+)", body["query"])
        name = found[1] if found else " ".join(body["query"].split())
        if name not in OPERATIONS:
            return self.refuse(name)
        asked = {**(body.get("variables") or {}), "base": f"http://{self.headers['Host']}"}
        try:
            with self.server.state.lock:
                answer = OPERATIONS[name](self.server.state, asked)
        except (LookupError, StopIteration) as error:  # asked for otherwise than is known
            return self.refuse(f"{name}: {error!r}")
        return self.answer({"data": answer})

    def do_PUT(self) -> None:
        self.server.state.files[self.path.removeprefix("/storage/")] = self.body()
        self.answer({})

    def do_GET(self) -> None:
        with self.server.state.lock:
            content = wandb_artifacts.stored(self.server.state, self.path)
        if content is None:
            return self.refuse(self.path)
        self.send(content)

    def do_CONNECT(self) -> None:
        self.server.state.beyond.append(self.path)
        self.answer({}, 403)


class Server(ThreadingHTTPServer):
    """The sockets; its death closes those that are open."""

    daemon_threads = True

    def __init__(self, port: int, state: State) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.state = state
        self.open: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed breaks its connection."""


class Standin:
    """The server, running; it can die and come back, on the same port and with the same state."""

    def __init__(self) -> None:
        self.state = State()
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server = Server(self.port, self.state)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.fall_silent()
        self._server.server_close()

    def fall_silent(self) -> None:
        """Answer nothing any more, whoever connects."""
        self._server.shutdown()
        for connection in list(self._server.open):
            with contextlib.suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"
