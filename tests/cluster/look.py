"""Looks at a run folder from a host's point of view: makes its bucket, prints its summary, or the ids of samples."""

import json
import sys

import boto3

from raydistill.core.store import Store


def main(uri, what=None):
    """Make the bucket of that name, or print a JSON file of the folder there, or the sample ids of a node."""
    if what is None:
        boto3.client("s3").create_bucket(Bucket=uri.removeprefix("s3://"))
    elif what.endswith(".json"):
        sys.stdout.write(json.dumps(Store.open(uri).read_json(what)))
    else:
        run = Store.open(uri)
        key = run.read_json("summary.json")["nodes"][what]["key"]
        sys.stdout.write(
            json.dumps((run / what / key / "samples").read_table(columns=["sample_id"])["sample_id"].to_pylist())
        )


main(*sys.argv[1:])
