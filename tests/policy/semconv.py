#!/usr/bin/env python3
"""Writes tests/policy/semconv.json: what the semantic conventions say of the metrics whose names our components use.

    git clone --branch v1.44.0 https://github.com/open-telemetry/semantic-conventions
    python3 tests/policy/semconv.py semantic-conventions 1.44.0 > tests/policy/semconv.json

Needs PyYAML. The table holds names, kinds, units, attributes with how much they are required, and the members of enums:
facts, and none of the text. What is deprecated is left out.
"""

import json
import pathlib
import sys

import yaml

# The namespaces that components have metrics of, and those whose attributes they use besides.
METRICS = ("container.", "http.", "process.", "system.")
ATTRIBUTES = ("rpc.",)


def level(reference):
    """`required`, `recommended` and so on: some say besides under which condition."""
    requirement = reference.get("requirement_level", "recommended")
    return requirement if isinstance(requirement, str) else next(iter(requirement))


def definition(attribute):
    kind = attribute["type"]
    if isinstance(kind, str):
        return {"type": kind}
    members = [member["value"] for member in kind["members"] if "deprecated" not in member]
    return {"type": "enum", "members": members}


def main(checkout, version):
    files = sorted((pathlib.Path(checkout) / "model").rglob("*.yaml"))
    models = [yaml.safe_load(file.read_text()) for file in files]
    groups = [group for model in models for group in model.get("groups", [])]
    by_id = {group["id"]: group for group in groups}
    # Files of the older format define attributes in groups, by `id`; those of the newer one by `key`.
    defined = [attribute for part in groups + models for attribute in part.get("attributes", [])]
    keyed = [(attribute.get("id") or attribute.get("key"), attribute) for attribute in defined]
    registry = {key: attribute for key, attribute in keyed if key and "deprecated" not in attribute}

    def levels(group):
        """The group's attributes: its own stand before those of the group that it extends."""
        inherited = levels(by_id[group["extends"]]) if "extends" in group else {}
        for reference in group.get("attributes", []):
            key = reference.get("ref") or reference["id"]
            if "requirement_level" in reference or key not in inherited:
                inherited[key] = level(reference)
        return inherited

    metrics = {
        group["metric_name"]: {
            "kind": group["instrument"],
            "unit": group["unit"],
            "attributes": dict(sorted(levels(group).items())),
        }
        for group in groups
        if group.get("type") == "metric" and "deprecated" not in group and group["metric_name"].startswith(METRICS)
    }
    used = {key for metric in metrics.values() for key in metric["attributes"]}
    used |= {key for key in registry if key.startswith(ATTRIBUTES)}
    attributes = {key: definition(registry[key]) for key in sorted(used)}
    table = {"version": version, "attributes": attributes, "metrics": dict(sorted(metrics.items()))}
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
