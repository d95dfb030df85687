"""Reads pages as prometheus_client does, strictly, and says what it found in them.

    parse_openmetrics.py < pages

On stdin, for each page, a line `openmetrics LENGTH` or `text LENGTH`, then so many bytes. On stdout, for each page, a
line of JSON for each sample, `[name, labels, bits of the value in hex]`, and then `{"error": null}` or what is wrong.

After LENGTH may come `reserved`: then labels may begin with two underscores. Those are for Prometheus to give a meaning
to, which takes them itself; who wants names without any translation gets them.
"""

import json
import re
import struct
import sys

from prometheus_client import validation
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

PARSERS = {"openmetrics": openmetrics, "text": text}
RESERVED = {True: validation.RESERVED_METRIC_LABEL_NAME_RE, False: re.compile("(?!)")}


def parse(parser, page):
    for family in parser(page.decode()):
        for sample in family.samples:
            yield json.dumps([sample.name, sample.labels, struct.pack(">d", sample.value).hex()])


def main():
    while head := sys.stdin.buffer.readline():
        name, length, *reserved = head.decode().split()
        validation.RESERVED_METRIC_LABEL_NAME_RE = RESERVED[not reserved]
        page = sys.stdin.buffer.read(int(length))
        try:
            for line in list(parse(PARSERS[name], page)):
                print(line)
            print(json.dumps({"error": None}))
        # A parser of untrusted text that trips over itself has refused the page as well.
        except Exception as error:
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}))


main()
