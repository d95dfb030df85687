"""Checks what kustomize prints, and prints it as JSON.

    kubectl kustomize FOLDER | validate_manifests.py KUBERNETES_VERSION

Objects of Kubernetes are checked against its own schemas, strictly: an unknown field is an error. Objects of the Prometheus
operator are checked against models of its definitions. On stdout one JSON list of all objects; what is wrong goes to
stderr, and the exit code is 1.
"""

import json
import sys

import kubernetes_validate
import yaml
from cloudcoil.models.prometheus_operator import v1 as operator


def unknown(given, read, path):
    """The fields that were given and not read: the models ignore what they do not know."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            yield from unknown(value, read[key], f"{path}.{key}") if key in read else [f"{path}.{key}"]
    elif isinstance(given, list) and isinstance(read, list):
        for index, (value, other) in enumerate(zip(given, read)):
            yield from unknown(value, other, f"{path}[{index}]")


def check(document, version):
    if document["apiVersion"] == "monitoring.coreos.com/v1":
        model = getattr(operator, document["kind"]).model_validate(document)
        read = json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
        if fields := list(unknown(document["spec"], read["spec"], "spec")):
            raise ValueError(f"unknown fields: {', '.join(fields)}")
    else:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise ValueError(f"{'.'.join(map(str, error.path))}: {error.message}") from error


def main():
    documents = [document for document in yaml.safe_load_all(sys.stdin) if document]
    failed = False
    for document in documents:
        try:
            check(document, sys.argv[1])
        # Whatever is raised, by whichever of the two, is what is wrong with the object.
        except Exception as error:
            failed = True
            print(f"{document.get('kind')} {document.get('metadata', {}).get('name')}: {error}", file=sys.stderr)
    json.dump(documents, sys.stdout)
    sys.exit(failed)


main()
