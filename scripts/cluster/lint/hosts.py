"""Host files: a name on each line, with slots=N as Open MPI has it."""

import re


def check(path, options, findings):
    """Names once each, slots that are numbers, and room for the ranks that are asked for. Gives the
    slots of each host, None where there is no word of them."""
    seen, room = {}, []
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    for at, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        name, slots = words[0], None
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.:_-]*", name):
            findings.add(path, f"line {at}: '{name}' is no host name")
            continue
        if name in seen:
            findings.add(path, f"line {at}: {name} is already in line {seen[name]}")
        seen.setdefault(name, at)
        for word in words[1:]:
            match = re.fullmatch(r"(slots|max_slots|max-slots)=(\d+)", word)
            if not match or match.group(2) == "0":
                findings.add(path, f"line {at}: '{word}' is not slots=N")
            elif match.group(1) == "slots":
                slots = int(match.group(2))
        room.append(slots)
        wanted = options.ranks_per_node
        if wanted and slots is not None and slots < wanted:
            findings.add(path, f"line {at}: {name} has {slots} slots, {wanted} ranks are wanted")
    if not seen:
        findings.add(path, "there is no host in it")
    if options.nodes and seen and len(seen) < options.nodes:
        findings.add(path, f"{len(seen)} hosts, but --nodes is {options.nodes}")
    return room
