"""Container files: what is in the image that a job's nodes start, against what the job wants of it."""

import os
import re
import shlex

from lint.common import Thing, at

HERE = os.path.dirname(os.path.realpath(__file__))
CHECKOUT = os.path.realpath(os.path.join(HERE, "..", "..", ".."))
# The images of the programs, on which others are built.
OURS = os.path.join(CHECKOUT, "scripts", "container", "Containerfile")

# Images that hold a distribution and no more: what such an image lacks is known.
PLAIN = re.compile(
    r"^(?:[\w.-]+(?:\.[\w.-]+)+/)?(?:[\w.-]+/)*"
    r"(debian|ubuntu|amazonlinux|rockylinux|almalinux|fedora|alpine|scratch)(?=[:@]|$)"
)
# Amazon's installer, or what it installed, copied: the libfabric and the Open MPI that know EFA.
# The libfabric of Debian and Ubuntu has no provider for it.
EFA = re.compile(r"efa_installer\.sh|/opt/amazon/efa")
LIBFABRIC = re.compile(r"\blibfabric(?:1|-bin|-dev|-devel)?\b")
# How each MPI comes into an image, and by which variables it is told what to do.
MPIS = {
    "Open MPI": (re.compile(r"\b(?:lib)?openmpi(?:-bin|\d|-devel|\b)|efa_installer\.sh"),
                 re.compile(r"\b(?:OMPI|PRTE)_MCA_\w|\bOMPI_ALLOW_")),
    "MPICH": (re.compile(r"\b(?:lib)?mpich(?:\d+|-devel|\b)"),
              re.compile(r"\b(?:HYDRA|MPICH)_[A-Z]\w+")),
    "Intel MPI": (re.compile(r"\bintel-(?:oneapi-)?mpi\b"), re.compile(r"\bI_MPI_[A-Z]\w+")),
}


class Image:
    """The last stage of a container file, with all that it is built on."""

    def __init__(self, thing, target=None):
        self.path, self.stages, self.arguments = thing.path, {}, {}
        self.last = self.chosen = None
        for word, rest in instructions(thing.text):
            if word == "FROM":
                self.begin_stage(rest)
            elif word == "ARG" and self.last is None:
                name, _, value = rest.partition("=")
                self.arguments[name] = value
            elif self.last is not None:
                self.stages[self.last][1].append((word, rest))
        self.chosen = target if target in self.stages else self.last
        self.base, self.layers = self.chain(self.chosen)

    def begin_stage(self, rest):
        words = [word for word in rest.split() if not word.startswith("--")]
        base = re.sub(r"\$\{?(\w+)(?::?-([^}]*))?\}?", self.argument, words[0])
        named = len(words) > 2 and words[1].upper() == "AS"
        self.last = words[2] if named else str(len(self.stages))
        self.stages[self.last] = (base, [])

    def argument(self, match):
        return self.arguments.get(match.group(1)) or match.group(2) or ""

    def chain(self, stage):
        """The image that a stage begins with, and all instructions from there on."""
        layers, seen = [], set()
        base = stage
        while base in self.stages and base not in seen:
            seen.add(base)
            base, own = self.stages[base]
            layers = own + layers
        return base or "", layers

    def settle(self, tags):
        """Puts the image that the base is, if its container file is known, below this one."""
        seen = set()
        while self.base in tags and self.base not in seen:
            seen.add(self.base)
            below = tags[self.base]
            self.layers, self.base = below.layers + self.layers, below.base
            self.arguments = {**below.arguments, **self.arguments}

    @property
    def known(self):
        """Whether all is known that is in the image."""
        return PLAIN.match(self.base) is not None

    def said(self, *words):
        """What these instructions say, as one text."""
        return "\n".join(rest for word, rest in self.layers if word in words)

    def entry(self):
        """The program that the image starts; None if it has no entry point of its own."""
        entries = [rest for word, rest in self.layers if word == "ENTRYPOINT"]
        words = in_words(entries[-1]) if entries else []
        # What a shell or an interpreter is to run is its first word that is a path.
        while words and os.path.basename(words[0]) in ("sh", "bash", "env", "tini", "-c", "--"):
            words = words[1:]
        return words[0] if words else None

    def copies(self):
        """Each file that COPY and ADD take from the checkout, and where it is then."""
        for word, rest in self.layers:
            if word not in ("COPY", "ADD"):
                continue
            words = in_words(rest)
            other = any(one.startswith("--from=") for one in words)
            words = [one for one in words if not one.startswith("--")]
            for source in words[:-1]:
                into = words[-1]
                if len(words) > 2 or into.endswith("/") or into == ".":
                    into = os.path.join(into, os.path.basename(source))
                yield None if other else source, into


def instructions(text):
    """Pairs of an instruction and its arguments, lines that go on joined."""
    text = re.sub(r"(?m)^\s*#.*\n?", "", text)
    text = re.sub(r"\\[ \t]*\n", " ", text)
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word:
            yield word.upper(), rest.strip()


def in_words(rest):
    """Arguments as a list, of both forms: for a shell and as JSON."""
    rest = rest.strip()
    if rest.startswith("["):
        return re.findall(r'"((?:[^"\\]|\\.)*)"', rest)
    try:
        return shlex.split(rest)
    except ValueError:
        return rest.split()


def tags_of(things):
    """Images by the tags that the container files say they are built with, in a comment."""
    tags = {}
    for thing in things:
        for line in re.findall(r"(?m)^#\s+docker build (.*)$", thing.text):
            words = line.split()
            following = dict(zip(words, words[1:]))
            named = following.get("-f", "")
            if "-t" in following and os.path.basename(named) == os.path.basename(thing.path):
                tags[following["-t"]] = Image(thing, following.get("--target"))
    return tags


def in_checkout(path, source):
    """Where a file that a container file copies is: images are built from the checkout."""
    for folder in (os.getcwd(), CHECKOUT, os.path.dirname(path)):
        found = os.path.join(folder, source)
        if os.path.exists(found):
            return found
    return None


def check(things, jobs, findings):
    """Each container file, and what it makes for each job definition that may start it."""
    base = []
    if os.path.exists(OURS):
        with open(OURS, encoding="utf-8") as file:
            base = [Thing(OURS, "container", file.read())]
    # A file that was given counts before ours.
    tags = tags_of(base + things)
    for image in tags.values():
        image.settle(tags)
    for thing in things:
        findings.judge(thing, check_image, tags, jobs)


def check_image(thing, tags, jobs, findings):
    image = Image(thing)
    if image.last is None:
        findings.add(thing.path, "there is no FROM in it")
        return
    image.settle(tags)
    for source, _ in image.copies():
        if source and not re.search(r"[*?$]|^https?:", source) and source != ".":
            if in_checkout(thing.path, source) is None:
                findings.add(
                    thing.path,
                    f"COPY {source}: there is no such file in the checkout, from which images are"
                    " built",
                )
    entry = image.entry()
    text = check_entry(image, entry, findings) if entry else None
    check_mpi(image, text, findings)
    for job in jobs:
        # An image without an entry point is a base of others, unless the job brings a command.
        if job.efa and (entry or not job.wants_entry):
            check_efa(image, job, findings)


def check_entry(image, entry, findings):
    """Whether the entry point is in the image; what it says, where that is in the checkout."""
    found = [source for source, into in image.copies() if into == entry]
    if not found:
        made = entry in image.said("RUN") or not entry.startswith("/")
        if not made and (image.known or entry.startswith("/usr/local/")):
            findings.add(
                image.path,
                f"ENTRYPOINT {entry}: no COPY puts a file there, so no container would start",
            )
        return None
    source = in_checkout(image.path, found[-1]) if found[-1] else None
    if source is None:
        return None
    changed = re.search(r"chmod", image.said("COPY", "ADD", "RUN"))
    if not os.access(source, os.X_OK) and not changed:
        findings.add(image.path, f"ENTRYPOINT {entry}: {found[-1]} is not executable (chmod +x)")
    with open(source, encoding="utf-8", errors="replace") as file:
        return found[-1], file.read()


def check_mpi(image, entry, findings):
    """One MPI in the image, and the one that the entry point speaks to."""
    there = [name for name, (package, _) in MPIS.items() if package.search(image.said("RUN"))]
    if len(there) > 1:
        findings.add(
            image.path,
            f"has {' and '.join(there)}: which mpirun the programs get is an accident, and they were"
            " built for one of them",
        )
    if entry is None:
        return
    name, text = entry
    code = re.sub(r"(?m)(^|\s)#.*$", "", text)
    called = [mpi for mpi, (_, variables) in MPIS.items() if variables.search(code)]
    if not called:
        return
    if not there and image.known:
        findings.add(
            image.path, f"has no MPI, and its entry point {name} starts ranks with {called[0]}"
        )
    elif there and not set(there) & set(called):
        findings.add(
            image.path,
            f"has {there[0]}, but its entry point {name} sets what {called[0]} reads: mpirun would"
            " know no other node",
        )


def check_efa(image, job, findings):
    if EFA.search(image.said("RUN", "ENV", "COPY", "ADD")) or not image.known:
        return
    lacks = "no libfabric"
    if LIBFABRIC.search(image.said("RUN")):
        lacks = f"the libfabric of {PLAIN.match(image.base).group(1)}, which does not know EFA"
    findings.add(
        image.path,
        f"has {lacks}, but {findings.name(job.path)} asks for EFA devices: Amazon's installer brings"
        " what uses them (scripts/container/Containerfile, --target efa)",
    )


class Wanted:
    """What a multi-node job definition wants of its image."""

    def __init__(self, path, job):
        self.path, self.efa, self.wants_entry = path, False, False
        for part in at(job, "NodeProperties", "NodeRangeProperties", default=[]) or []:
            container = at(part, "Container", default={}) or {}
            devices = at(container, "LinuxParameters", "Devices", default=[]) or []
            paths = [str(at(one, "HostPath", default="")) for one in devices]
            self.efa = self.efa or any("/infiniband/uverb" in path for path in paths)
            self.wants_entry = self.wants_entry or "--" in (container.get("Command") or [])
