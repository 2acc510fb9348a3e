"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

API_PORT, PREFECT_PORT = 8000, 4200
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for results: clips and JSON artifacts go to OUT/JOB/.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the log along with the progress bars.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
JobArgument = Annotated[str, typer.Argument(help="Job id, kk_...", metavar="JOB")]
