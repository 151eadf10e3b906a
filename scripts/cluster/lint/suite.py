"""Suites (TOML): the ranks that their rows start, against the nodes that they are to run on."""

import os
import re

from lint import launch
from lint.common import at

# Variables by which a suite lets mpirun start more ranks than there are slots.
OVERSUBSCRIBE = ("OMPI_MCA_rmaps_base_oversubscribe", "PRTE_MCA_rmaps_default_mapping_policy")


class Room:
    """So many nodes, and how many ranks each may have, or None; and who says so."""

    def __init__(self, source, slots):
        self.source, self.slots = source, slots

    @property
    def nodes(self):
        return len(self.slots)

    def total(self):
        return None if None in self.slots else sum(self.slots)

    def least(self):
        return min((slots for slots in self.slots if slots is not None), default=None)


def rooms(hosts, scripts, options, findings):
    """All that describes nodes: host files, batch scripts, the command line. hosts are pairs of a
    path and the slots of each host, scripts are triples of a Thing, nodes and ranks per node."""
    found = [(Room(findings.name(path), slots), None) for path, slots in hosts if slots]
    for thing, nodes, per_node in scripts:
        if nodes:
            # It says itself which suites it runs.
            found.append((Room(findings.name(thing.path), [per_node] * nodes), thing.text))
    if options.nodes:
        found.append((Room("--nodes", [options.ranks_per_node] * options.nodes), None))
    return found


def check(suites, described, findings):
    for thing in suites:
        findings.judge(thing, check_suite, described)


def check_suite(thing, described, findings):
    name = re.escape(os.path.basename(thing.path))
    fitting = [
        room for room, text in described if text is None or re.search(rf"(?<![\w.-]){name}\b", text)
    ]
    for row in at(thing.data, "row", default=[]):
        label = f"row {row.get('name')}"
        for words in commands(row):
            start = launch.in_words(words)
            if row.get("per_node") and start is None:
                findings.add(
                    thing.path,
                    f"{label}: per_node, but no launcher starts it: one node would leave a report"
                    " (mpirun --map-by ppr:1:node)",
                )
            if start:
                for room in fitting:
                    check_row(thing, label, row, start, room, findings)


def commands(row):
    """The command of a row, or those of its arms; peers' servers are not started by launchers."""
    rows = [row, *(row.get("arm") or [])]
    return [one["command"] for one in rows if one.get("command")]


def check_row(thing, label, row, start, room, findings):
    """What is not known, of the row or of the nodes, is not judged."""
    nodes, ranks = room.nodes, start.ranks
    held = f"{nodes} node{'s' if nodes != 1 else ''} ({room.source})"
    if start.program != "srun" and start.per_node:
        least = room.least()
        if least is not None and start.per_node > least:
            say(
                thing, label, findings,
                f"{start.program} starts {start.per_node} ranks on each node, but a node of {held}"
                f" has {least} slot{'s' if least != 1 else ''}",
            )
        if ranks and ranks > nodes * start.per_node:
            say(
                thing, label, findings,
                f"{start.program} starts {ranks} ranks, {start.per_node} on each node, but there"
                f" are {held}",
            )
    total = room.total()
    if ranks and total is not None and ranks > total:
        allowed = any(name in at(thing.data, "env", default={}) for name in OVERSUBSCRIBE)
        then = "they would share CPUs" if allowed else "mpirun would refuse"
        say(
            thing, label, findings,
            f"{start.program} starts {ranks} ranks, but {held} hold {total}: {then}",
        )
    if row.get("per_node") and ranks and ranks < nodes:
        say(
            thing, label, findings,
            f"per_node, but {start.program} starts {ranks} rank{'s' if ranks != 1 else ''} on"
            f" {held}: {nodes - ranks} would leave no report",
        )


def say(thing, label, findings, what):
    findings.add(thing.path, f"{label}: {what}")
