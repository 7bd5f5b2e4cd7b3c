"""Run calls of the MONAI Label client that 3D Slicer uses, in the label environment; results are one line of JSON.

python tests/helpers/label_client.py URL FOLDER '[["info"], ["infer", "model", "image", {"depth": "1"}]]' [--together]
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from monailabel.client.client import MONAILabelClient, MONAILabelClientException


def call(client, name, arguments):
    """Result of one call, or what the client makes of a refusal."""
    try:
        return {"result": getattr(client, name)(*arguments)}
    except MONAILabelClientException as error:
        return {"refused": error.msg}


def main(url, folder, calls, *options):
    client = MONAILabelClient(url, tmpdir=folder, client_id="tester")
    steps = [(name, arguments) for name, *arguments in json.loads(calls)]
    with ThreadPoolExecutor(len(steps) if "--together" in options else 1) as pool:
        results = list(pool.map(lambda step: call(client, *step), steps))
    sys.stdout.write(json.dumps(results) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
