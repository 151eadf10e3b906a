"""What all rules share: what was found, what a file is, and what instance types have."""

import os
import re

import yaml

HERE = os.path.dirname(os.path.realpath(__file__))
PLACEHOLDER = re.compile(r"\bYOUR-[A-Z][A-Z-]*[A-Z]\b")


class Thing:
    """A file, what it is (kind), its text and, of YAML and JSON, its data."""

    def __init__(self, path, kind, text, data=None):
        self.path, self.kind, self.text, self.data = path, kind, text, data


class Findings:
    """Lines for the user: problems, notes, and what could not be checked."""

    def __init__(self, base):
        self.base, self.problems, self.notes, self.missing = base, [], [], []

    def name(self, path):
        """The path as short as it can be said."""
        short = os.path.relpath(path, self.base)
        return path if short.startswith("..") else short

    def add(self, path, what):
        line = f"{self.name(path)}: {what}"
        if line not in self.problems:
            self.problems.append(line)

    def unavailable(self, what):
        if what not in self.missing:
            self.missing.append(what)

    def judge(self, thing, rules, *others):
        """Applies rules to a file; what is not shaped as they expect is a problem of the file."""
        try:
            rules(thing, *others, self)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            self.add(
                thing.path,
                f"is not shaped as such a file is, so our rules cannot read it: {error}",
            )

    def placeholders(self, thing, deploy):
        """Words that stand for what only the user knows."""
        code = re.sub(r"(?m)(^|\s)#.*$", "", thing.text)
        words = " ".join(sorted(set(PLACEHOLDER.findall(code))))
        if words and deploy:
            self.add(thing.path, f"still to be filled in: {words}")
        elif words:
            self.notes.append(f"{self.name(thing.path)}: to be filled in: {words} (--deploy)")

    def show(self, files):
        """Prints everything; the exit code."""
        for line in [*self.notes, *self.problems]:
            print(line)
        for line in self.missing:
            print(f"unavailable: {line}")
        count = len(self.problems)
        said = "1 problem" if count == 1 else f"{count} problems" if count else "nothing found"
        print(f"{files} file{'s' if files != 1 else ''} checked: {said}")
        return 1 if self.problems else 3 if self.missing else 0


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms of functions."""


def _function(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", _function)


def read(path, findings):
    """What a file is, by its name where that says it, else by what is in it."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    if path.endswith(".hosts"):
        return Thing(path, "hosts", text)
    if re.search(r"(?:^|[-.])(?:Containerfile|Dockerfile)\b", os.path.basename(path)):
        return Thing(path, "container", text)
    if path.endswith(".toml"):
        return read_suite(path, text, findings)
    if re.search(r"(?m)^#SBATCH\b", text):
        return Thing(path, "sbatch", text)
    if text.startswith("#!") or path.endswith(".sh"):
        return Thing(path, "shell", text)
    try:
        data = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        findings.add(path, "cannot be read: " + " ".join(str(error).split()))
        return Thing(path, "unreadable", text)
    if isinstance(data, dict):
        if "HeadNode" in data or "Scheduling" in data:
            return Thing(path, "pcluster", text, data)
        if "Resources" in data or "nodeProperties" in data:
            return Thing(path, "batch", text, data)
    return Thing(path, "unknown", text, data)


def read_suite(path, text, findings):
    """TOML, which is a suite if it has rows."""
    try:
        import tomllib
    except ImportError:
        findings.unavailable("suites: Python has no tomllib, which came with 3.11")
        return Thing(path, "unreadable", text)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        findings.add(path, f"cannot be read: {error}")
        return Thing(path, "unreadable", text)
    return Thing(path, "suite" if "row" in data else "unknown", text, data)


def instance_types():
    """Types with EFA: name to a dictionary of efa, cores, vcpus and instance_store."""
    types = {}
    with open(os.path.join(HERE, "efa.tsv"), encoding="utf-8") as file:
        for line in file:
            if not line.startswith("#"):
                name, efa, cores, vcpus, store = line.rstrip("\n").split("\t")
                types[name] = {
                    "efa": int(efa),
                    "cores": int(cores),
                    "vcpus": int(vcpus),
                    "instance_store": store == "yes",
                }
    return types


def at(data, *keys, default=None):
    """What is at this place of nested dictionaries and lists."""
    for key in keys:
        if isinstance(data, dict) and key in data:
            data = data[key]
        elif isinstance(data, list) and isinstance(key, int) and key < len(data):
            data = data[key]
        else:
            return default
    return data
