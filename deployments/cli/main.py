"""The command line: kangklip clip | resume | status | list | edit | recut | delete | up | api | deploy | doctor |
demo | job | backup | restore | mcp.

Results go to standard output; progress, notes and errors go to standard error.
"""

import io
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from deployments import console
from deployments.cli import job_commands, service_commands
from infra import disk, settings
from infra.errors import ConfigError, InfraError
from tasks.core.errors import BadRequest, ClipError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done; 1 the job, or something it depends on, failed; 2 the request or a setting is wrong, "
    "or a port is taken; 130 stopped.",
)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        print(f"kangklip {version('kangklip')}")  # noqa: T201
        raise typer.Exit


@app.callback()
def every_command(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Cut a long video into short vertical clips with titles and captions.

    Start with `kangklip demo` or `kangklip clip talk.mp4 --count 2`. For a web page and an API, run `kangklip up`.
    """


COMMANDS = {
    "clip": job_commands.clip_command,
    "resume": job_commands.resume,
    "status": job_commands.status,
    "list": job_commands.list_command,
    "edit": job_commands.edit_command,
    "recut": job_commands.recut_command,
    "delete": job_commands.delete_command,
    "up": service_commands.up,
    "api": service_commands.api,
    "deploy": service_commands.deploy_command,
    "demo": job_commands.demo,
    "doctor": service_commands.doctor,
    "backup": service_commands.backup_command,
    "restore": service_commands.restore_command,
    "job": service_commands.job_command,
    "mcp": service_commands.mcp_command,
}
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


def main() -> None:
    """Run the command line; print each expected failure as one line with a next step."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # paths may hold bytes that are no text; JSON reads them back
    try:
        sys.exit(app(standalone_mode=False))
    except (ClipError, InfraError) as error:
        may_be_disk = isinstance(error, InfraError) and not isinstance(error, ConfigError)
        console.fail((may_be_disk and disk.explain_if_full(error, settings.load().data_dir)) or str(error))
        sys.exit(2 if isinstance(error, ConfigError | BadRequest) else 1)
    except typer.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        console.fail("Stopped.")
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "show"):  # a usage error of click
            error.show()  # pyright: ignore[reportAttributeAccessIssue]
            sys.exit(2)
        if fault := disk.explain_if_full(error, settings.load().data_dir):
            console.fail(fault)
            sys.exit(1)
        raise


if __name__ == "__main__":
    main()
