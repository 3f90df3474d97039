"""One upload in a process of its own, to be killed. Imports little, because it starts often."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from qwenkit.credentials import Credentials
from qwenkit.weights.oss.bucket import open_bucket
from qwenkit.weights.retry import RetryPolicy
from qwenkit.weights.transfer import TransferOptions, upload


def main(url: str, source: str, state: str, part_size: str, workers: str) -> None:
    keys = Credentials(access_key_id="transfer-test", access_key_secret="transfer-secret")
    bucket = open_bucket(url, "weights", keys, region="cn-hangzhou")
    options = TransferOptions(
        part_size=int(part_size),
        workers=int(workers),
        retries=RetryPolicy(attempts=5, base_s=0.01, cap_s=0.05),
    )
    upload(source, bucket, "m", run="test", state_dir=Path(state), options=options)


if __name__ == "__main__":
    # A shell's background jobs, and with them these tests, may run with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(*sys.argv[1:])
