"""Stands in for the demo's control in its tests: says that training alone is worse."""

import json
import re
import sys

import click

if any(word.endswith(":fail") for word in sys.argv):
    sys.exit("no such task")
shards = [word.split(":") for word in sys.argv if re.fullmatch(r"\d+:\d+", word)]
assert shards and all(int(steps) % 40 == 0 for _, steps in shards)
click.echo(json.dumps({"accuracies": [0.5 + 0.1 * int(shard) for shard, _ in shards], "weights": 17226}))
