"""What the stand-in of the W&B server tells of runs: of one that goes on, of all of a project."""

import base64
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from wandb_standin import State, WandbRun

Json = dict[str, Any]
ENTITY: Final = "local"  # whose projects they are, also where nobody says whose


def coded(text: str) -> str:
    """Return an id as the server writes it."""
    return base64.b64encode(text.encode()).decode()


def resumed(run: "WandbRun") -> Json:
    """Return what a process that goes on with a run must know."""
    tail = json.dumps([json.dumps(row) for row in run.history[-1:]])
    counts = {"historyLineCount": len(run.history), "logLineCount": 0, "eventsLineCount": 0}
    texts = {"historyTail": tail, "eventsTail": "[]", "config": json.dumps(run.config)}
    texts |= {"summaryMetrics": json.dumps(run.summary), "wandbConfig": '{"t": 1}'}
    about = {"displayName": run.about.get("displayName"), "tags": run.about.get("tags", [])}
    return {"id": coded(run.name), "name": run.name, "notes": None, **counts, **texts, **about}


def runs(state: "State", asked: Json) -> Json:
    """Return a page of a project's runs, the oldest first."""
    assert (asked["order"], asked["filters"]) == ("+created_at", "{}")
    place = (asked["entity"], asked["project"])
    found = [run for run in state.runs.values() if (run.entity, run.project) == place]
    if not found:
        return {"project": None}
    start = int(asked["cursor"] or 0)
    end = start + asked["perPage"]
    edges = [
        {"node": node(run), "cursor": str(number)}
        for number, run in enumerate(found[start:end], start + 1)
    ]
    page = {"endCursor": str(end), "hasNextPage": end < len(found)}
    listed = {"edges": edges, "pageInfo": page}
    project = {"internalId": "1", "runCount": len(found), "readOnly": False, "runs": listed}
    return {"project": project}


def node(run: "WandbRun") -> Json:
    """Return a run as the server describes it."""
    nothing = ("commit", "description", "notes", "systemMetrics", "historyKeys", "heartbeatAt")
    return {
        **dict.fromkeys(nothing),
        **{"id": run.name, "name": run.name, "projectId": 1, "state": run.state},
        **{"displayName": run.about.get("displayName", run.name), "sweepName": run.sweep},
        **{"group": run.about.get("groupName"), "jobType": run.about.get("jobType")},
        **{"tags": run.about.get("tags", []), "readOnly": False, "user": {}},
        **{"config": json.dumps(run.config), "summaryMetrics": json.dumps(run.summary)},
        **{"createdAt": "2026-01-01T00:00:00Z", "historyLineCount": len(run.history)},
    }


def projects(state: "State", asked: Json) -> Json:
    """Return the projects that have runs, on one page."""
    fixed = {"createdAt": "2026-01-01T00:00:00Z", "isBenchmark": False, "user": None}
    found = {run.project: run.entity for run in state.runs.values()}
    edges = [
        {"node": {"id": coded(name), "name": name, "entityName": entity, **fixed}}
        for name, entity in found.items()
    ]
    return {"models": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}


def upsert_view(state: "State", asked: Json) -> Json:
    """Keep a report."""
    state.views.append(asked)
    project = {"id": coded(asked["projectName"]), "name": asked["projectName"]}
    told = ("name", "displayName", "description", "type", "spec")
    view = {"id": coded("view"), **{name: asked.get(name) for name in told}}
    view |= {"project": {**project, "entityName": asked["entityName"]}, "updatedAt": None}
    return {"upsertView": {"view": view, "inserted": True}}


OPERATIONS = {"Runs": runs, "GetProjects": projects, "upsertView": upsert_view}
