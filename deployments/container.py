"""What the worker's image runs: the one job that its environment names, as `kangklip job` does.

A container that the Nosana worker rented has a grant instead, which nothing redeems yet: it says so and ends.
"""

import os
import sys

from deployments import console
from deployments.cli import main as kangklip
from infra.nosana.job_definition import GRANT_VARIABLE

NOT_YET = "This version cannot redeem a grant: name the job, the bucket and the callback as for kangklip job."


def main() -> None:
    if os.environ.get(GRANT_VARIABLE):
        console.fail(NOT_YET)
        sys.exit(2)
    sys.argv[1:] = ["job"]
    kangklip()


if __name__ == "__main__":
    main()
