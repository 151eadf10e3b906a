"""How mpirun and srun are started: ranks against nodes, and where host files come from."""

import os
import re
import shlex

INDEX = "AWS_BATCH_JOB_NODE_INDEX"
MAIN = "AWS_BATCH_JOB_MAIN_NODE_INDEX"
ADDRESS = "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"
LAUNCHERS = ("mpirun", "mpiexec", "srun")
RANKS = ("-n", "-np", "--np", "--ntasks")
PER_NODE = ("-N", "--npernode", "-npernode", "-ppn", "--ntasks-per-node")
HOSTFILES = ("--hostfile", "-hostfile", "--machinefile", "-machinefile", "-f")
HOSTS = (*HOSTFILES, "--host", "-host", "-H")
# Options of srun that leave nodes out on purpose.
SUBSET = ("-N", "--nodes", "-w", "--nodelist")


class Launch:
    """What a line says of ranks, each a number or None: ranks, per_node; and of host files."""

    def __init__(self, words):
        self.program = os.path.basename(words[0])
        self.ranks = self.per_node = self.hosts = self.host_option = None
        self.subset = False
        position = 1
        while position < len(words):
            word, _, value = words[position].partition("=")
            following = words[position + 1] if position + 1 < len(words) else ""
            if not value and word in (*RANKS, *PER_NODE, *HOSTS, "--map-by"):
                value = following
                position += 1
            if word in RANKS:
                self.ranks = number(value)
            elif word in PER_NODE and self.program != "srun" or word == "--ntasks-per-node":
                self.per_node = number(value)
            elif word == "--map-by" and re.match(r"ppr:\d+:node", value):
                self.per_node = int(value.split(":")[1])
            elif word in HOSTS and self.program != "srun":
                self.host_option, self.hosts = word, value
            self.subset = self.subset or self.program == "srun" and word in SUBSET
            position += 1


def number(text):
    return int(text) if text.isdigit() else None


def in_words(words):
    """The launch in a command that is a list of words, or None."""
    for position, word in enumerate(words):
        if os.path.basename(str(word)) in LAUNCHERS:
            return Launch([str(word) for word in words[position:]])
    # A line for a shell.
    for word in words:
        if " " in str(word):
            found = in_text(str(word))
            if found:
                return found[0]
    return None


def in_text(text):
    """All launches in a shell script."""
    found = []
    joined = re.sub(r"\\\n", " ", text)
    for line in joined.splitlines():
        if line.lstrip().startswith("#"):
            continue
        for part in re.split(r"[;&|]+|\$\(", line):
            try:
                words = shlex.split(part)
            except ValueError:
                words = part.split()
            # Behind what stands before a command: exec, if, an assignment.
            while words and (words[0] in ("exec", "if", "then", "time") or "=" in words[0]):
                words = words[1:]
            if words and os.path.basename(words[0]) in LAUNCHERS:
                found.append(Launch(words))
    return found


def check_ranks(path, launch, nodes, per_node, findings, where=""):
    """np against nodes times ranks per node; what is not known is not judged."""
    said = f"{where}{launch.program}"
    per_node = launch.per_node or per_node
    if launch.ranks is None or not nodes or not per_node or launch.subset:
        return
    room = nodes * per_node
    if launch.ranks > room:
        findings.add(
            path,
            f"{said} starts {launch.ranks} ranks, but {nodes} nodes with {per_node} ranks each"
            f" hold {room}",
        )
    elif launch.ranks < room and launch.ranks <= (nodes - 1) * per_node:
        used = -(-launch.ranks // per_node)
        findings.add(
            path,
            f"{said} starts {launch.ranks} ranks with {per_node} on each node: {used} of {nodes}"
            " nodes have any, the others are paid for and idle",
        )


def check_script(thing, findings):
    """A host file must be there, and a Batch node must not ask for what it is not told."""
    for launch in in_text(thing.text):
        if launch.host_option in HOSTFILES and launch.hosts and "$" not in launch.hosts:
            near = os.path.join(os.path.dirname(thing.path), launch.hosts)
            if not os.path.exists(launch.hosts) and not os.path.exists(near):
                findings.add(
                    thing.path,
                    f"{launch.program} {launch.host_option} {launch.hosts}: that host file is"
                    " missing; write it, or leave it out where the scheduler tells the nodes",
                )
    if thing.kind == "shell":
        check_address(thing, findings)


def check_address(thing, findings):
    """The main node's address is told to the others only: a use must be on their side of a test."""
    stack, function = [], ""
    for line in thing.text.splitlines():
        code = re.sub(r"(^|\s)#.*$", "", line).strip()
        start = re.match(r"(?:function\s+)?(\w+)\s*\(\)", code)
        if start:
            function = start.group(1)
        if code.startswith(("if ", "elif ")):
            if code.startswith("elif ") and stack:
                stack.pop()
            stack.append((code, True))
        elif code == "else" and stack:
            stack[-1] = (stack[-1][0], False)
        elif re.match(r"fi\b", code) and stack:
            stack.pop()
        if code == "}":
            function = ""
        if re.search(r"\$\{?" + ADDRESS, code) and not on_child(stack, function, code):
            findings.add(
                thing.path,
                f"uses {ADDRESS} on the main node, where Batch does not set it: test {INDEX}"
                f" against {MAIN} first",
            )
            return


def on_child(stack, function, line):
    """Whether a line is reached on nodes other than the main one only."""
    if "child" in function:
        return True
    for condition, holds in [*stack, (line, True)]:
        if INDEX not in condition or MAIN not in condition:
            continue
        differs = re.search(r"!=|-ne\b", condition) is not None
        if differs == holds:
            return True
    return False
