"""The files in ``deploy``: no engine runs them here, so their rules are read and checked."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from mynah import __version__
from mynah.server.settings import PREFIX, ServerSettings

DEPLOY = Path(__file__).parents[2] / "deploy"
IMAGES = ("Dockerfile", "Dockerfile.gpu")
YAML = sorted(path.relative_to(DEPLOY).as_posix() for path in DEPLOY.rglob("*.yaml"))
KUBERNETES = "1.30"
OTHERS = ("kustomization.yaml", "adapter.yaml", "keda.yaml", "monitor.yaml", "gpu.yaml")
"""Kinds that the cluster's own API does not have, and a patch."""


def load(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def manifests() -> list[tuple[str, dict[str, Any]]]:
    folder = DEPLOY / "kubernetes"
    return [
        (path.name, document)
        for path in sorted(folder.glob("*.yaml"))
        for document in load(f"kubernetes/{path.name}")
    ]


def instructions(name: str) -> list[tuple[str, str]]:
    """Of a Dockerfile: instruction and arguments, continued lines joined, comments left out."""
    text = (DEPLOY / name).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    split = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(word.upper(), rest) for word, rest in split]


def environment(name: str) -> dict[str, str]:
    """Variables of the last stage."""
    values: dict[str, str] = {}
    for word, rest in instructions(name):
        if word == "FROM":
            values = {}
        if word == "ENV":
            values |= dict(part.split("=", 1) for part in shlex.split(rest))
    return values


@pytest.mark.parametrize("name", IMAGES)
def test_image_is_not_root_and_tells_its_health(name: str) -> None:
    found = instructions(name)
    last = [word for word, _ in found][::-1].index("FROM")
    stage = dict(found[len(found) - last :])
    user, group = stage["USER"].split(":")
    assert int(user) >= 10_000
    assert int(group) >= 10_000
    assert stage["EXPOSE"] == "8080"
    assert stage["STOPSIGNAL"] == "SIGTERM"
    assert "/health" in stage["HEALTHCHECK"]
    options, command = stage["HEALTHCHECK"].split("CMD", 1)
    assert {"--interval", "--timeout", "--start-period", "--retries"} <= {
        option.split("=")[0] for option in options.split()
    }
    compile(json.loads(command)[2], "health check", "exec")
    assert set(json.loads(stage["VOLUME"])) == {"/data/models", "/data/voices", "/data/server"}
    assert json.loads(stage["ENTRYPOINT"]) == ["mynah"]
    assert json.loads(stage["CMD"]) == ["serve"]


@pytest.mark.parametrize("name", IMAGES)
def test_image_is_built_from_fixed_versions_and_files_that_exist(name: str) -> None:
    found = instructions(name)
    for rest in (rest for word, rest in found if word == "FROM"):
        image = rest.split()[0]
        assert re.fullmatch(r"[a-z/]+:[0-9][\w.-]*", image), image
        assert "latest" not in image
    ignored = (DEPLOY / f"{name}.dockerignore").read_text(encoding="utf-8").splitlines()
    for rest in (rest for word, rest in found if word == "COPY" and "--from" not in rest):
        for source in rest.split()[:-1]:
            assert (DEPLOY.parent / source).exists(), source
            assert f"!{source}" in ignored, f"{source} is not let in by the dockerignore file"
    assert not any(word == "ADD" or "sudo" in rest for word, rest in found)
    extras = re.findall(r'"\.\[([\w,]+)\]"', " ".join(rest for _, rest in found))
    assert extras
    project = (DEPLOY.parent / "pyproject.toml").read_text(encoding="utf-8")
    for extra in extras[0].split(","):
        assert re.search(rf"(?m)^{extra} = \[", project), extra


@pytest.mark.parametrize("name", IMAGES)
def test_image_needs_a_key(name: str) -> None:
    settings = ServerSettings.load(environment(name))
    assert settings.is_public
    with pytest.raises(ValueError, match="no API key"):
        settings.check_exposure()
    assert settings.log_format == "json"


@pytest.mark.parametrize("name", YAML)
def test_yaml_is_yaml_and_no_image_floats(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    assert all(document for document in load(name))
    for image in re.findall(r"(?m)^\s+(?:- )?image: (\S+)", text):
        assert re.search(r":v?[0-9]", image), image
        if image.startswith("mynah:"):
            assert image.split(":")[1].split("-")[0] == ".".join(__version__.split(".")[:2])


@pytest.mark.parametrize("name", [*YAML, *IMAGES])
def test_variables_are_settings(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    names = set(re.findall(rf"{PREFIX}(\w+)", text))
    assert {found.lower() for found in names} <= set(ServerSettings.model_fields)


def test_compose_is_for_this_machine_and_asks_for_a_key() -> None:
    (document,) = load("compose.yaml")
    for service in document["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        named = [volume.split(":")[0] for volume in service["volumes"]]
        for volume in named:
            local = DEPLOY / volume
            assert local.exists() if volume.startswith("./") else volume in document["volumes"]
    ours = document["services"]["mynah"]
    assert ours["environment"]["MYNAH_SERVER_API_KEYS"].startswith("${MYNAH_API_KEYS:?")
    assert (DEPLOY / ours["build"]["context"] / ours["build"]["dockerfile"]).is_file()
    assert ours["read_only"]
    assert "/health" in ours["healthcheck"]["test"][-1]
    assert int(ours["stop_grace_period"].removesuffix("s")) > ServerSettings().drain_s


@pytest.mark.parametrize(
    "manifest", [document for name, document in manifests() if name not in OTHERS]
)
def test_manifests_fit_the_schemas_of_kubernetes(manifest: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    validate.validate(manifest, KUBERNETES, strict=True)


def test_workload_is_confined_and_probed() -> None:
    (deployment,) = load("kubernetes/deployment.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert str(pod["securityContext"]["runAsUser"]) in dict(instructions("Dockerfile"))["USER"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    from mynah.server.routes import health

    paths = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness")}
    assert paths == {"/ready"}
    assert container["livenessProbe"]["httpGet"]["path"] == "/live"
    assert {"/ready", "/live"} <= {route.path for route in health.router.routes}  # type: ignore[attr-defined]  # all have one
    values = {entry["name"]: entry for entry in container["env"]}
    drain = float(values["MYNAH_SERVER_DRAIN_S"]["value"])
    assert pod["terminationGracePeriodSeconds"] > drain + 5
    assert "valueFrom" in values["MYNAH_SERVER_API_KEYS"]
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
    assert {"/data/models", "/data/voices"} <= {
        mount["mountPath"] for mount in container["volumeMounts"]
    }


def test_parts_of_the_cluster_refer_to_each_other() -> None:
    kinds = {document["kind"]: document for _, document in manifests() if "kind" in document}
    (deployment,) = load("kubernetes/deployment.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert kinds["Service"]["spec"]["selector"] == labels
    for kind in ("PodDisruptionBudget", "PodMonitor"):
        assert kinds[kind]["spec"]["selector"]["matchLabels"] == labels
    assert kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    target = kinds["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    (metric,) = kinds["HorizontalPodAutoscaler"]["spec"]["metrics"]
    (adapter,) = load("kubernetes/adapter.yaml")
    assert adapter["rules"]["custom"][0]["name"]["as"] == metric["pods"]["metric"]["name"]
    resources = kinds["Kustomization"]["resources"]
    assert all((DEPLOY / "kubernetes" / name).is_file() for name in resources)
    claims = {
        document["metadata"]["name"]
        for _, document in manifests()
        if document.get("kind") == "PersistentVolumeClaim"
    }
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    wanted = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in volumes
        if "persistentVolumeClaim" in volume
    }
    assert wanted == claims
