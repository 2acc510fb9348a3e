"""Run the batch flow once in this process: `run_batch.py REQUEST_JSON`. It polls its jobs more often than usual."""

import sys

from flows import batch_jobs
from flows.batch import batch
from tasks.core.source.batch import BatchRequest

if __name__ == "__main__":
    batch_jobs.POLL_SECONDS = 0.1
    batch(BatchRequest.model_validate_json(sys.argv[1]))
