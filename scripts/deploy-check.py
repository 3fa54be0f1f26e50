"""Checks that scripts/deploy/kubernetes.yaml and tidegate.service agree with themselves and with tidegate.

    deploy-check.py TIDEGATE    the program, to ask about its settings

Run by scripts/deploy-check.sh, which installs the libraries.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "scripts" / "deploy"
# For what no setting covers: fsync of the ledger, a machine that is busy.
MARGIN_S = 3

complaints = []


def check(holds, complaint):
    if not holds:
        complaints.append(complaint)


def settings(tidegate, environment, args=()):
    """What tidegate makes of these variables, by name; the unknown and the wrong are refused by it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    told = subprocess.run([tidegate, "serve", "--print-config=env", *args], env=clean | environment,
                          capture_output=True, text=True, check=False)
    if told.returncode != 0:
        sys.exit(f"deploy-check.py: tidegate refuses the settings:\n{told.stderr}")
    lines = [line for line in told.stdout.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def seconds(settings_, name):
    return int(settings_[name]) / 1000


def longest_stop(settings_):
    """Seconds from SIGTERM to the exit: the plan, a worker and a handler of the pool that hang, the rest."""
    grace_ms = re.search(r"WORKER_GRACE_MS: u64 = ([\d_]+);", (ROOT / "src/limits.rs").read_text())[1]
    return seconds(settings_, "TIDEGATE_DRAIN_TIMEOUT_MS") + 2 * int(grace_ms.replace("_", "")) / 1000 + MARGIN_S


def pre_stop(container):
    """Seconds that the preStop hook takes from the grace period."""
    hook = container.get("lifecycle", {}).get("preStop")
    if not hook:
        return 0
    if "sleep" in hook:
        return hook["sleep"]["seconds"]
    words = " ".join(hook.get("exec", {}).get("command", []))
    slept = re.search(r"\bsleep ([\d.]+)", words)
    check(slept, f"how long does the preStop hook take? {hook}")
    return float(slept[1]) if slept else 0


def environment(container, config_maps):
    variables = {}
    for source in container.get("envFrom", []):
        name = source["configMapRef"]["name"]
        check(name in config_maps, f"envFrom names the ConfigMap {name}, which is not there")
        variables |= config_maps.get(name, {})
    for variable in container.get("env", []):
        variables[variable["name"]] = variable.get("value", "given-by-kubernetes")
    return variables


def probe(container, name, path, admin_port):
    found = container.get(name, {}).get("httpGet", {})
    check(found.get("path") == path, f"{name} asks for {found.get('path')!r}, and not for {path}")
    check(found.get("port") == admin_port, f"{name} asks the port {found.get('port')!r}, and not {admin_port!r}")
    return container.get(name, {})


def check_pod(tidegate, spec, config_maps):
    container = spec["containers"][0]
    variables = environment(container, config_maps)
    effective = settings(tidegate, variables)
    ports = {port["containerPort"]: port["name"] for port in container["ports"]}
    listen = effective["TIDEGATE_LISTEN"].rsplit(":", 1)
    admin = effective["TIDEGATE_ADMIN"].rsplit(":", 1)
    check(ports.get(int(listen[1])) == "mcp", f"TIDEGATE_LISTEN={':'.join(listen)}: no containerPort mcp has that number")
    check(ports.get(int(admin[1])) == "admin", f"TIDEGATE_ADMIN={':'.join(admin)}: no containerPort admin has that number")
    for host in (listen[0], admin[0]):
        check(host == "0.0.0.0", f"{host}: nobody reaches that from outside of the pod")
    check("TIDEGATE_ADMIN_TOKEN_FILE" in effective, "the admin port is open to other pods, and no token guards it")
    check(effective["TIDEGATE_AUTH"] != "none", "everybody may come in")

    probe(container, "startupProbe", "/healthz", "admin")
    probe(container, "livenessProbe", "/healthz", "admin")
    readiness = probe(container, "readinessProbe", "/readyz", "admin")
    noticed = readiness["periodSeconds"] * readiness["failureThreshold"] + readiness["timeoutSeconds"]
    announce = seconds(effective, "TIDEGATE_DRAIN_ANNOUNCE_MS") + pre_stop(container)
    check(announce >= noticed, f"readiness is seen to end after {noticed} s, and it accepts for only {announce} s of that")
    grace = spec["terminationGracePeriodSeconds"]
    needed = pre_stop(container) + longest_stop(effective)
    check(needed <= grace <= needed + 10, f"terminationGracePeriodSeconds is {grace}, and the stop takes up to {needed} s")

    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    secrets = {volume["name"] for volume in spec["volumes"] if "secret" in volume}
    credentials = variables.get("CREDENTIALS_DIRECTORY")
    check(mounts.get(credentials) in secrets, f"CREDENTIALS_DIRECTORY={credentials}: no Secret is mounted there")
    check(effective["TIDEGATE_DATA_DIR"] in mounts, "TIDEGATE_DATA_DIR is on the root file system, which is read-only")
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    check(container["image"].endswith(f":{version}"), f"the image is {container['image']}, and this is {version}")


def check_manifest(tidegate):
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    for document in documents:
        what = f"{document['kind']} {document['metadata']['name']}"
        try:
            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            check(False, f"{what}: {'.'.join(map(str, error.path))}: {error.message}")
    by_kind = {}
    for document in documents:
        by_kind.setdefault(document["kind"], []).append(document)
    config_maps = {document["metadata"]["name"]: document["data"] for document in by_kind["ConfigMap"]}
    workload = by_kind["StatefulSet"][0]
    template = workload["spec"]["template"]
    labels = template["metadata"]["labels"].items()
    ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    check_pod(tidegate, template["spec"], config_maps)
    check(workload["spec"]["selector"]["matchLabels"].items() <= labels, "the StatefulSet does not select its own pods")
    services = {document["metadata"]["name"]: document["spec"] for document in by_kind["Service"]}
    check(workload["spec"]["serviceName"] in services, "the StatefulSet's serviceName is not there")
    for name, service in services.items():
        check(service["selector"].items() <= labels, f"the Service {name} selects no pod")
        for port in service["ports"]:
            check(port["targetPort"] in ports, f"the Service {name} leads to the port {port['targetPort']}, which no pod has")
    for budget in by_kind["PodDisruptionBudget"]:
        check(budget["spec"]["selector"]["matchLabels"].items() <= labels, "the PodDisruptionBudget is for no pod")
    return len(documents)


def check_unit(tidegate):
    lines = [line.split("=", 1) for line in (DEPLOY / "tidegate.service").read_text().splitlines()
             if "=" in line and not line.startswith("#")]
    unit = dict(lines)
    given = {"CREDENTIALS_DIRECTORY": "/run/credentials/tidegate.service"}
    environment_ = dict(value.split("=", 1) for name, value in lines if name == "Environment")
    effective = settings(tidegate, environment_ | given, ["--env-file", str(DEPLOY / "tidegate.env")])
    stop, needed = int(unit["TimeoutStopSec"]), longest_stop(effective)
    check(needed <= stop <= needed + 10, f"TimeoutStopSec is {stop}, and the stop takes up to {needed} s")
    fed, limit = int(unit["WatchdogSec"]) / 2, seconds(effective, "TIDEGATE_HEALTH_LIMIT_MS")
    check(fed >= limit, f"the watchdog is fed each {fed} s, and a worker counts as alive for {limit} s")
    # A credential that the settings name has to be given.
    named = {value.removeprefix(given["CREDENTIALS_DIRECTORY"] + "/") for value in effective.values()
             if value.startswith(given["CREDENTIALS_DIRECTORY"])}
    loaded = {value.split(":")[0] for name, value in lines if name == "LoadCredential"}
    check(named == loaded, f"LoadCredential= brings {sorted(loaded)}, and the settings name {sorted(named)}")


def main():
    tidegate = sys.argv[1]
    documents = check_manifest(tidegate)
    check_unit(tidegate)
    for complaint in complaints:
        print(f"deploy-check.py: {complaint}", file=sys.stderr)
    if not complaints:
        print(f"kubernetes.yaml: {documents} documents, by the schema of {kubernetes_validate.latest_version()} and by their own figures")
    return 1 if complaints else 0


sys.exit(main())
