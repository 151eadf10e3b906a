"""AWS Batch: cfn-lint for the template, and what makes a multi-node parallel job with EFA work."""

import importlib.util
import json
import re
import subprocess
import sys

from lint import container, launch
from lint.common import at, instance_types

RUN_CFN_LINT = "import sys; from cfnlint.runner import main; sys.exit(main())"
TARGET = re.compile(r"^(\d*)(:?)(\d*)$")


def check(things, findings):
    for thing in things:
        findings.judge(thing, check_rules)
    templates = [thing for thing in things if "Resources" in thing.data]
    if templates:
        run_cfn_lint(templates, findings)


def check_rules(thing, findings):
    for job in jobs(thing.data):
        Job(thing, job, findings).check()
    for name, group in resources(thing.data, "AWS::EC2::SecurityGroup").items():
        check_group(thing, name, group, findings)


def resources(data, kind):
    """Properties of all resources of a type, by name."""
    found = at(data, "Resources", default={}) or {}
    return {
        name: at(one, "Properties", default={}) or {}
        for name, one in found.items()
        if at(one, "Type") == kind
    }


def jobs(data):
    """Multi-node job definitions, of a template or by themselves (as in JSON for the CLI)."""
    found = list(resources(data, "AWS::Batch::JobDefinition").values())
    if "nodeProperties" in data:
        found.append(capital(data))
    return [job for job in found if job.get("Type") == "multinode"]


def wanted(things, findings):
    """What the job definitions want of their images."""
    found = []

    def read(thing, _):
        found.extend(container.Wanted(thing.path, job) for job in jobs(thing.data))

    for thing in things:
        findings.judge(thing, read)
    return found


def capital(data):
    """The CLI's keys as CloudFormation writes them."""
    if isinstance(data, dict):
        return {key[:1].upper() + key[1:]: capital(value) for key, value in data.items()}
    if isinstance(data, list):
        return [capital(value) for value in data]
    return data


class Job:
    """One job definition, with what of the template it will run on."""

    def __init__(self, thing, job, findings):
        self.path, self.findings = thing.path, findings
        self.properties = job.get("NodeProperties") or {}
        self.nodes = self.properties.get("NumNodes")
        self.known = instance_types()
        self.environments = resources(thing.data, "AWS::Batch::ComputeEnvironment")
        self.templates = resources(thing.data, "AWS::EC2::LaunchTemplate")
        self.groups = resources(thing.data, "AWS::EC2::PlacementGroup")
        self.efa = False

    def say(self, what):
        self.findings.add(self.path, what)

    def check(self):
        for part in self.properties.get("NodeRangeProperties") or []:
            self.check_container(part, at(part, "Container", default={}) or {})
        self.check_ranges()
        for name, environment in self.environments.items():
            self.check_environment(name, environment.get("ComputeResources") or {}, environment)

    def types(self, part=None):
        """The instance types that nodes may be."""
        listed = at(part, "InstanceTypes", default=[]) or []
        for environment in self.environments.values():
            listed = listed or at(environment, "ComputeResources", "InstanceTypes", default=[])
        return [one for one in listed if isinstance(one, str)]

    def check_ranges(self):
        """Every node must be in a range, and the main one must be there."""
        if not isinstance(self.nodes, int):
            self.say("NumNodes is not a number")
            return
        covered = set()
        for part in self.properties.get("NodeRangeProperties") or []:
            text = str(part.get("TargetNodes", ""))
            match = TARGET.match(text)
            if not match or not text:
                self.say(f"TargetNodes '{text}' is not a range like 0: or 1:3")
                continue
            first = int(match.group(1) or 0)
            last = match.group(3) or (self.nodes - 1 if match.group(2) else first)
            covered.update(range(first, int(last) + 1))
        left = sorted(set(range(self.nodes)) - covered)
        if left:
            self.say(f"nodes {' '.join(map(str, left))} of {self.nodes} are in no TargetNodes")
        beyond = sorted(covered - set(range(self.nodes)))
        if beyond:
            self.say(f"TargetNodes has node {beyond[-1]}, NumNodes is {self.nodes}")
        main = self.properties.get("MainNode")
        if main not in range(self.nodes):
            self.say(f"MainNode {main} is none of the {self.nodes} nodes")

    def check_container(self, part, container):
        devices = at(container, "LinuxParameters", "Devices", default=[]) or []
        paths = [str(at(one, "HostPath", default="")) for one in devices]
        verbs = [path for path in paths if re.fullmatch(r"/dev/infiniband/uverbs\d+", path)]
        for path in paths:
            if "infiniband" in path and path not in verbs or re.search(r"/uverb(?!s\d)", path):
                self.say(f"device {path} is no EFA device: /dev/infiniband/uverbs0, 1, ...")
        self.efa = self.efa or bool(verbs)
        self.check_devices(part, verbs)
        if verbs:
            limits = [one for one in container.get("Ulimits") or [] if one.get("Name") == "memlock"]
            ends = {one.get(key) for one in limits for key in ("SoftLimit", "HardLimit")}
            if ends != {-1}:
                said = "missing" if not limits else f"{at(limits, 0, 'SoftLimit')}"
                self.say(f"EFA locks memory without limit, but the ulimit memlock is {said}; -1")
        self.check_command(part, container)

    def check_devices(self, part, verbs):
        for kind in self.types(part):
            count = self.known.get(kind, {}).get("efa", 0)
            if verbs and count == 0:
                self.say(f"EFA devices are asked for, but {kind} has none")
            elif len(verbs) != count and verbs:
                self.say(
                    f"{len(verbs)} uverbs device{'s' if len(verbs) != 1 else ''} for {kind}, which"
                    f" has {count} of EFA"
                )

    def check_command(self, part, container):
        command = [str(word) for word in container.get("Command") or []]
        start = launch.in_words(command)
        if not start or start.program == "srun":
            return
        # The entry point of our image gives mpirun a host file; others' do not.
        ours = "--" in command
        if not ours and not start.host_option:
            self.say(
                f"{start.program} without a host file: all ranks would be on the main node; start"
                " it by the entry point (ENTRY-OPTIONS -- mpirun ...) or give --hostfile"
            )
        slots = command[command.index("--slots") + 1] if "--slots" in command[:-1] else None
        per_node = start.per_node or (int(slots) if slots and slots.isdigit() else None)
        if isinstance(self.nodes, int):
            launch.check_ranks(self.path, start, self.nodes, per_node, self.findings)

    def check_environment(self, name, compute, environment):
        kind = str(compute.get("Type", ""))
        if kind.startswith("FARGATE"):
            self.say(f"{name}: multi-node parallel jobs do not run on Fargate; Type EC2")
        if kind == "SPOT":
            self.say(
                f"{name}: Spot with jobs of several nodes: a job is lost with the first instance"
                " that is taken away; Type EC2"
            )
        if environment.get("Type") == "UNMANAGED":
            self.say(f"{name}: unmanaged: Batch would start no nodes; Type MANAGED")
        if self.efa:
            self.check_placement(name, compute)
            self.check_interfaces(name, compute)
        subnets = compute.get("Subnets") or []
        if compute.get("PlacementGroup") and len(subnets) > 1:
            self.say(f"{name}: {len(subnets)} subnets and a placement group, which is in one zone")
        most = compute.get("MaxvCpus")
        for one in self.types():
            needed = self.known.get(one, {}).get("vcpus", 0) * (self.nodes or 0)
            if isinstance(most, int) and most < needed:
                self.say(
                    f"{name}: MaxvCpus {most}, but {self.nodes} nodes of {one} have {needed}: the"
                    " job would wait for ever"
                )

    def check_placement(self, name, compute):
        group = compute.get("PlacementGroup")
        if not group:
            self.say(f"{name}: EFA is on and there is no placement group: nodes would be far apart")
            return
        strategy = at(self.groups, at(group, "Ref"), "Strategy")
        if strategy and strategy != "cluster":
            self.say(f"{name}: the placement group spreads nodes ({strategy}); Strategy cluster")

    def check_interfaces(self, name, compute):
        used = at(compute, "LaunchTemplate", "LaunchTemplateId", "Ref")
        data = at(self.templates, used, "LaunchTemplateData", default={}) if used else {}
        interfaces = [
            one
            for one in at(data, "NetworkInterfaces", default=[]) or []
            if str(one.get("InterfaceType", "")).startswith("efa")
        ]
        if used in self.templates and not interfaces:
            self.say(f"{name}: EFA devices are asked for, but {used} has no interface of type efa")
        for kind in self.types():
            count = self.known.get(kind, {}).get("efa", 0)
            if interfaces and count and len(interfaces) != count:
                self.say(
                    f"{name}: {used} has {len(interfaces)} interfaces of type efa, {kind} has"
                    f" {count} devices"
                )


def check_group(thing, name, group, findings):
    """EFA's traffic passes between members of a group that names itself, in both directions."""
    def by_itself(inline, kind, key):
        separate = resources(thing.data, f"AWS::EC2::{kind}").values()
        rules = [one for one in separate if names(one.get("GroupId"), name)]
        rules += [one for one in group.get(inline) or [] if isinstance(one, dict)]
        return any(
            str(rule.get("IpProtocol")) == "-1" and names(rule.get(key), name) for rule in rules
        )

    ways = [
        ("in", "SecurityGroupIngress", "SecurityGroupIngress", "SourceSecurityGroupId"),
        ("out", "SecurityGroupEgress", "SecurityGroupEgress", "DestinationSecurityGroupId"),
    ]
    for way, inline, kind, key in ways:
        if not by_itself(inline, kind, key):
            findings.add(
                thing.path,
                f"{name}: the security group does not let its own members {way} (a rule for all"
                f" protocols with {key} of itself): nodes would not reach each other by EFA",
            )


def names(value, resource):
    """Whether a value means this resource."""
    found = at(value, "Ref") or at(value, "Fn::GetAtt", 0)
    return found == resource


def run_cfn_lint(things, findings):
    if importlib.util.find_spec("cfnlint") is None:
        findings.unavailable("cfn-lint: not installed; scripts/setup --cluster")
        return
    paths = [thing.path for thing in things]
    ran = subprocess.run(
        # Its program names the folder that it was installed in, which has moved since.
        [sys.executable, "-c", RUN_CFN_LINT, "--format", "json", "--", *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        matches = json.loads(ran.stdout)
    except ValueError:
        findings.unavailable(f"cfn-lint failed: {(ran.stderr or ran.stdout).strip()[-200:]}")
        return
    for match in matches:
        line = at(match, "Location", "Start", "LineNumber")
        rule = at(match, "Rule", "Id")
        what = " ".join(str(match.get("Message")).split())
        findings.add(match.get("Filename"), f"cfn-lint {rule}, line {line}: {what}")
