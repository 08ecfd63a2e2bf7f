"""What the stand-in of the W&B server knows of artifacts: made, uploaded, committed, used, fetched.

As in W&B, equal content makes no new version, an alias belongs to one version of an artifact and
moves to the newest that asks for it, and a version can be used once it is committed.
"""

import base64
import hashlib
import json
import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wandb_projects import ENTITY

if TYPE_CHECKING:
    from wandb_standin import State

Json = dict[str, Any]


@dataclass
class WandbArtifact:
    """A version of an artifact.

    Attributes:
        name: Name of the artifact, without the version.
        version: Number of the version.
        digest: Of its manifest.
        kind: Its type.
        made_by: Run that logged it first.
        metadata: As the run gave it.
        aliases: Names of this version.
        used_by: Runs that used it.
        committed: Whether it is complete.
    """

    name: str
    version: int
    digest: str
    kind: str
    project: str
    entity: str
    made_by: str
    metadata: Json
    aliases: set[str] = field(default_factory=set)
    used_by: list[str] = field(default_factory=list)
    committed: bool = False
    id: str = field(default_factory=lambda: base64.b64encode(uuid.uuid4().bytes).decode())

    @property
    def manifest_file(self) -> str:
        """Where the manifest is stored."""
        return f"manifest/{hashlib.md5(self.id.encode()).hexdigest()}"

    def fields(self) -> Json:
        """Return it as the server describes it."""
        entity = {"id": "e", "name": self.entity}
        project = {"id": "p", "internalId": "p", "name": self.project, "entity": entity}
        named = {"__typename": "ArtifactSequence", "name": self.name, "project": project}
        nothing = ("description", "historyStep", "commitHash", "updatedAt")
        return {
            **dict.fromkeys(nothing),
            **{"__typename": "Artifact", "id": self.id, "versionIndex": self.version},
            **{"artifactSequence": named, "artifactType": {"name": self.kind}},
            **{"metadata": json.dumps(self.metadata), "state": "COMMITTED", "digest": self.digest},
            **{"ttlIsInherited": True, "ttlDurationSeconds": -2},
            **{"tags": [], "size": 1, "fileCount": 2},
            **{"createdAt": "2026-01-01T00:00:00Z", "digestAlgorithm": "MANIFEST_MD5"},
            "aliases": [
                {"__typename": "ArtifactAlias", "id": alias, "alias": alias}
                | {"artifactCollection": named}
                for alias in sorted(self.aliases)
            ],
        }


def by_id(state: "State", name: str) -> WandbArtifact:
    """Return the artifact of that id."""
    return next(artifact for artifact in state.artifacts if artifact.id == name)


def by_name(state: "State", asked: Json) -> WandbArtifact | None:
    """Return the committed version that ``name:alias`` names in a project."""
    name, _, alias = asked["name"].partition(":")
    place = (name, asked["project"], asked["entity"])
    for artifact in state.artifacts:
        if (artifact.name, artifact.project, artifact.entity) != place or not artifact.committed:
            continue
        if alias in (artifact.aliases | {f"v{artifact.version}"}):
            return artifact
    return None


def artifact_by_name(state: "State", asked: Json) -> Json:
    found = by_name(state, asked)
    return {"project": {"artifact": found and found.fields()}}


def create_artifact(state: "State", asked: Json) -> Json:
    given = asked.get("input", asked)  # ``wandb sync`` of 0.26 asks without "input"
    name = given.get("artifactCollectionName") or given["artifactCollectionNames"][0]
    project = given["projectName"]
    same = [a for a in state.artifacts if (a.name, a.project) == (name, project)]
    found = next((a for a in same if a.digest == given["digest"]), None)
    if found is None:
        found = WandbArtifact(
            *(name, len(same), given["digest"], given["artifactTypeName"], project),
            *(given["entityName"] or ENTITY, given["runName"], json.loads(given["metadata"])),
        )
        state.artifacts.append(found)
    aliases = {alias["alias"] for alias in given["aliases"]}
    for other in same:
        other.aliases -= aliases
    found.aliases |= aliases
    latest = {"id": same[-1].id, "versionIndex": same[-1].version} if same else None
    about = {"id": found.id, "state": "COMMITTED" if found.committed else "PENDING"}
    sequence = {"id": found.name, "latestArtifact": latest}
    return {"createArtifact": {"artifact": {**about, "artifactSequence": sequence}}}


def create_manifest(state: "State", asked: Json) -> Json:
    """Return where the manifest is to be put; its id is that of its artifact."""
    found = by_id(state, asked["artifactID"])
    return {"createArtifactManifest": {"artifactManifest": manifest(found, asked)}}


def manifest(artifact: WandbArtifact, asked: Json) -> Json:
    """Return the manifest as the server describes it before it is there."""
    upload = {"uploadUrl": f"{asked['base']}/storage/{artifact.manifest_file}", "uploadHeaders": []}
    return {"id": artifact.id, "file": {"id": artifact.id, **upload}}


def create_files(state: "State", asked: Json) -> Json:
    """Return where files are to be put: by their checksum, as their content is addressed."""
    edges = []
    for given in asked.get("input", asked)["artifactFiles"]:  # until 0.26 without "input"
        place = f"artifact/{base64.b64decode(given['md5']).hex()}"
        about = {"id": place, "name": given["name"], "displayName": given["name"]}
        about |= {"uploadUrl": f"{asked['base']}/storage/{place}", "uploadHeaders": []}
        about |= {"uploadMultipartUrls": None, "storagePath": place}
        edges.append({"node": {**about, "artifact": {"id": given["artifactID"]}}})
    return {"createArtifactFiles": {"files": {"edges": edges}}}


def commit_artifact(state: "State", asked: Json) -> Json:
    found = by_id(state, asked["artifactID"])
    listed = json.loads(state.files[found.manifest_file])["contents"]
    found.committed = {place_of(state, found, name) for name in listed} <= state.files.keys()
    return {"commitArtifact": {"artifact": {"id": found.id, "digest": found.digest}}}


def place_of(state: "State", artifact: WandbArtifact, name: str) -> str:
    """Return where a file of an artifact is stored."""
    entry = json.loads(state.files[artifact.manifest_file])["contents"][name]
    return f"artifact/{base64.b64decode(entry['digest']).hex()}"


def use_artifact(state: "State", asked: Json) -> Json:
    found = by_id(state, asked["artifactID"])
    if asked["runName"] not in found.used_by:
        found.used_by.append(asked["runName"])
    return {"useArtifact": {"artifact": found.fields()}}


def artifact_by_id(state: "State", asked: Json) -> Json:
    return {"artifact": by_id(state, asked["id"]).fields()}


def membership_by_name(state: "State", asked: Json) -> Json:
    found = by_name(state, asked)
    if found is None:
        return {"project": {"artifactCollectionMembership": None}}
    fields = found.fields()
    collection = fields["artifactSequence"]
    member = {"__typename": "ArtifactCollectionMembership", "id": "m", "artifact": fields}
    member |= {"versionIndex": found.version, "createdAt": fields["createdAt"]}
    member |= {"aliases": fields["aliases"], "artifactCollection": collection}
    return {"project": {"artifactCollectionMembership": member}}


def fetch_manifest(state: "State", asked: Json) -> Json:
    address = f"{asked['base']}/storage/{by_id(state, asked['id']).manifest_file}"
    return {"artifact": {"currentManifest": {"file": {"directUrl": address}}}}


def stored(state: "State", path: str) -> bytes | None:
    """Return what a path of the server holds: a stored file, or a file of an artifact."""
    if path.startswith("/storage/"):
        return state.files.get(path.removeprefix("/storage/"))
    found = re.match(r"/artifactsV2/.*/([0-9a-f]{32})(?:/|$)", path)
    return state.files.get(f"artifact/{found[1]}") if found else None


OPERATIONS = {
    "ArtifactType": artifact_by_name,
    "ArtifactByName": artifact_by_name,
    "CreateArtifact": create_artifact,
    "CreateArtifactManifest": create_manifest,
    "CreateArtifactFiles": create_files,
    "CommitArtifact": commit_artifact,
    "UseArtifact": use_artifact,
    "ArtifactByID": artifact_by_id,
    "ArtifactMembershipByName": membership_by_name,
    "FetchArtifactManifest": fetch_manifest,
}
