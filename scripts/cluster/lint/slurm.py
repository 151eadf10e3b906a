"""Batch scripts for Slurm: what they ask for, and whether a Slurm takes it and a cluster has it."""

import os
import re
import subprocess

from lint import launch, pcluster
from lint.common import at, instance_types

HERE = os.path.dirname(os.path.realpath(__file__))
SHORT = {"N": "nodes", "n": "ntasks", "p": "partition", "o": "output", "J": "job-name", "t": "time"}


def asked(text):
    """The options of the #SBATCH lines, by their long names."""
    options = {}
    for line in re.findall(r"(?m)^#SBATCH\s+(.*)$", text):
        words = line.split("#")[0].split()
        while words:
            word = words.pop(0)
            name, _, value = word.lstrip("-").partition("=")
            if not word.startswith("--"):
                name, value = SHORT.get(name[:1], name[:1]), name[1:] or value
            if not value and words and not words[0].startswith("-"):
                value = words.pop(0)
            options[name] = value
    return options


def number(options, name):
    value = options.get(name, "")
    # A range of nodes, 2-4: the fewest.
    value = value.split("-")[0]
    return int(value) if value.isdigit() else None


def asked_nodes(thing):
    """How many nodes a script asks for and how many tasks on each, if it says so."""
    options = asked(thing.text)
    return number(options, "nodes"), number(options, "ntasks-per-node")


def check(scripts, clusters, given, findings):
    for thing in scripts:
        options = asked(thing.text)
        check_options(thing, options, findings)
        nodes, per_node = asked_nodes(thing)
        for start in launch.in_text(thing.text):
            launch.check_ranks(thing.path, start, given.nodes or nodes,
                               given.ranks_per_node or per_node, findings)
        for cluster in clusters:
            # A configuration of another shape is a problem of its own.
            findings.judge(thing, check_cluster, options, cluster)
    if scripts:
        ask_slurm(scripts, findings)


def check_options(thing, options, findings):
    for name, why in [
        ("nodes", "how many nodes is Slurm's choice then, and differs from run to run"),
        ("ntasks-per-node", "ranks may be packed on few nodes"),
        ("exclusive", "others may share the nodes, and would be measured too"),
    ]:
        if name not in options:
            findings.add(thing.path, f"no #SBATCH --{name}: {why}")
    if "%j" not in options.get("output", ""):
        findings.add(
            thing.path, "no #SBATCH --output with %j: jobs would write over each other (%x_%j.out)"
        )
    tasks, nodes = number(options, "ntasks"), number(options, "nodes")
    per_node = number(options, "ntasks-per-node")
    if tasks and nodes and per_node and tasks != nodes * per_node:
        findings.add(
            thing.path,
            f"--ntasks {tasks}, but {nodes} nodes with {per_node} tasks each are"
            f" {nodes * per_node}",
        )


def check_cluster(thing, options, cluster, findings):
    """Whether some queue, or the one that is named, has what the script asks for."""
    wanted, nodes = options.get("partition"), number(options, "nodes") or 1
    per_node = number(options, "ntasks-per-node") or 1
    named = findings.name(cluster.path)
    queues = [
        (queue, resources)
        for queue, resources in pcluster.queues(cluster.data)
        if not wanted or queue.get("Name") in wanted.split(",")
    ]
    if wanted and not queues:
        findings.add(thing.path, f"--partition {wanted}: {named} has no such queue")
        return
    known = instance_types()
    for queue, resources in queues:
        most = max((at(one, "MaxCount", default=10) for one in resources), default=0)
        name = f"queue {queue.get('Name')} of {named}"
        if isinstance(most, int) and most < nodes:
            findings.add(
                thing.path,
                f"asks for {nodes} nodes, but {name} has MaxCount {most}: the job would wait for"
                " ever",
            )
        for resource in resources:
            threads = not resource.get("DisableSimultaneousMultithreading", False)
            for kind in pcluster.types_of(resource):
                cpus = at(known, kind, "vcpus" if threads else "cores")
                if cpus and per_node > cpus:
                    findings.add(
                        thing.path,
                        f"asks for {per_node} tasks on each node, but {kind} in {name} has {cpus}"
                        " CPUs",
                    )


def ask_slurm(scripts, findings):
    """sbatch --test-only on a Slurm of this machine that is started for it."""
    paths = [os.path.realpath(thing.path) for thing in scripts]
    ran = subprocess.run(
        [os.path.join(os.path.dirname(HERE), "slurm-local"), "test", "--", *paths],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )
    if ran.returncode not in (0, 1):
        what = ran.stderr.strip().splitlines()
        findings.unavailable(f"sbatch --test-only: {what[-1] if what else ran.returncode}")
        return
    answers = dict(line.split(": ", 1) for line in ran.stdout.splitlines() if ": " in line)
    for thing, path in zip(scripts, paths):
        answer = answers.get(path, "no answer")
        if not re.match(r"Job \d+ to start", answer):
            findings.add(thing.path, f"sbatch --test-only: {answer}")
