"""ParallelCluster configurations: the package's own schema, and what it lets pass."""

import copy
import os

from lint.common import PLACEHOLDER, at, instance_types

# What stands for a placeholder while the schema reads: well-formed, and nobody's.
FILLINGS = {"SUBNET": "subnet-00000000000000000", "REGION": "us-east-1", "GROUP": "sg-00000000"}


def check(things, findings):
    for thing in things:
        findings.judge(thing, check_rules)
    if things:
        check_schema(things, findings)


def filled(data):
    """The data with something well-formed for each placeholder."""
    if isinstance(data, dict):
        return {key: filled(value) for key, value in data.items()}
    if isinstance(data, list):
        return [filled(value) for value in data]
    if isinstance(data, str) and PLACEHOLDER.search(data):
        for word, filling in FILLINGS.items():
            if word in data:
                return filling
        return PLACEHOLDER.sub("filled-in", data)
    return data


def check_schema(things, findings):
    # It looks up the region when it is loaded, and must look nowhere else.
    os.environ.update(AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true")
    try:
        from marshmallow import ValidationError
        from pcluster.schemas.cluster_schema import ClusterSchema
    except ImportError as error:
        findings.unavailable(f"ParallelCluster's schema: {error}; scripts/setup --cluster")
        return
    for thing in things:
        try:
            ClusterSchema(cluster_name="check").load(filled(copy.deepcopy(thing.data)))
        except ValidationError as error:
            for place, what in flat(error.messages):
                findings.add(thing.path, f"ParallelCluster's schema: {place}: {what}")
        # The package makes objects of what it read, which fails in ways of its own.
        except Exception as error:  # pylint: disable=broad-except
            findings.add(thing.path, f"ParallelCluster's schema: {type(error).__name__}: {error}")


def flat(messages, place=""):
    """Nested messages as pairs of a place and what is wrong there."""
    if isinstance(messages, dict):
        for key, value in messages.items():
            name = f"[{key}]" if isinstance(key, int) else f"{'.' if place else ''}{key}"
            yield from flat(value, place + ("" if key == "_schema" else name))
    else:
        for what in messages if isinstance(messages, list) else [messages]:
            yield place or "the whole", what


def queues(data):
    """Each queue with its compute resources, as far as they are well-formed."""
    for queue in at(data, "Scheduling", "SlurmQueues", default=[]) or []:
        if isinstance(queue, dict):
            resources = queue.get("ComputeResources") or []
            yield queue, [one for one in resources if isinstance(one, dict)]


def types_of(resource):
    """The instance types of a compute resource."""
    several = [at(one, "InstanceType") for one in resource.get("Instances") or []]
    return [name for name in [*several, resource.get("InstanceType")] if name]


def check_rules(thing, findings):
    known = instance_types()
    for queue, resources in queues(thing.data):
        name = f"queue {queue.get('Name')}"
        for resource in resources:
            check_resource(thing, name, queue, resource, known, findings)
        check_queue(thing, name, queue, resources, findings)
    check_storage(thing, findings)


def placed(queue, resource):
    """Whether a placement group is on; the resource's word counts before the queue's."""
    for place in (resource, queue):
        group = at(place, "Networking", "PlacementGroup")
        if isinstance(group, dict) and ("Enabled" in group or group.get("Name") or group.get("Id")):
            return group.get("Enabled", True)
    return False


def check_resource(thing, name, queue, resource, known, findings):
    efa = at(resource, "Efa", "Enabled", default=False)
    for kind in types_of(resource):
        if efa and kind not in known:
            findings.add(
                thing.path,
                f"{name}: EFA is on, but {kind} has none (a type newer than lint/efa.tsv is added"
                " there)",
            )
        mount = at(queue, "ComputeSettings", "LocalStorage", "EphemeralVolume", "MountDir")
        if mount and kind in known and not known[kind]["instance_store"]:
            findings.add(
                thing.path,
                f"{name}: {mount} is to be the instance store of {kind}, which has none",
            )
    if efa and not placed(queue, resource):
        findings.add(
            thing.path,
            f"{name}: EFA is on and the placement group off: nodes would be far apart"
            " (Networking.PlacementGroup.Enabled)",
        )
    low, high = resource.get("MinCount"), resource.get("MaxCount")
    if isinstance(low, int) and isinstance(high, int) and low > high:
        findings.add(thing.path, f"{name}: MinCount {low} is more than MaxCount {high}")


def check_queue(thing, name, queue, resources, findings):
    most = max((at(one, "MaxCount", default=10) for one in resources), default=0)
    if queue.get("CapacityType") == "SPOT" and isinstance(most, int) and most > 1:
        findings.add(
            thing.path,
            f"{name}: Spot with jobs of several nodes (MaxCount {most}): a job is lost with the"
            " first instance that is taken away; CapacityType ONDEMAND",
        )
    subnets = at(queue, "Networking", "SubnetIds", default=[]) or []
    if len(subnets) > 1 and any(placed(queue, one) for one in resources):
        findings.add(
            thing.path,
            f"{name}: {len(subnets)} subnets and a placement group, which is in one zone:"
            " one subnet",
        )
    if queue.get("JobExclusiveAllocation") is not True:
        findings.add(
            thing.path,
            f"{name}: jobs may share a node, and would measure each other:"
            " JobExclusiveAllocation: true",
        )


def zones(thing):
    """What the file says of zones, in lines '# check: az SUBNET ZONE'."""
    lines = [line.split() for line in thing.text.splitlines()]
    lines = [words for words in lines if words[:3] == ["#", "check:", "az"] and len(words) == 5]
    return {words[3]: words[4] for words in lines}


def check_storage(thing, findings):
    """ParallelCluster makes a file system in the head node's subnet."""
    head = at(thing.data, "HeadNode", "Networking", "SubnetId")
    shared = at(thing.data, "SharedStorage", default=[]) or []
    lustre = [one for one in shared if at(one, "StorageType") in ("FsxLustre", "FsxOpenZfs")]
    if not lustre:
        return
    zone = zones(thing)
    for queue, _ in queues(thing.data):
        for subnet in at(queue, "Networking", "SubnetIds", default=[]) or []:
            if subnet == head or (zone.get(subnet) and zone.get(subnet) == zone.get(head)):
                continue
            if subnet in zone and head in zone:
                where = f"zone {zone[subnet]}, the file system in {zone[head]}"
            else:
                where = f"{subnet}, the file system in {head}, maybe in another zone"
            findings.add(
                thing.path,
                f"queue {queue.get('Name')}: {at(lustre, 0, 'MountDir')} from another subnet: the"
                f" nodes are in {where}; one subnet for both, or, if both are in one zone, say"
                " '# check: az SUBNET ZONE' for each",
            )
