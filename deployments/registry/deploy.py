"""`kangklip deploy`: register everything that a Prefect server needs. It may be repeated."""

from rich.table import Table
from rich.text import Text

from deployments.console import console, note, out
from deployments.registry import automations, blocks
from deployments.registry.register import Registered, register
from infra import settings
from infra.errors import ConfigError
from infra.nosana.worker import NosanaWorker
from infra.settings import Settings


def deploy(*, bucket_block: bool) -> None:
    """Register work pools, deployments, blocks and automations, then print them and the next steps.

    Raises:
        ConfigError: no Prefect server is named, or the settings lack the bucket for its block.
        SubmitError: the Prefect server is away or refuses.
        StackError: a pool exists with another type, or `prefect deploy` failed.
    """
    configured = settings.load()
    if configured.prefect_api_url is None:
        raise ConfigError("Set PREFECT_API_URL to the Prefect server; for this machine alone, run: kangklip up")
    with console.status("Registering work pools and deployments") as shown:
        template = NosanaWorker.get_default_base_job_template()
        done = register(configured.prefect_api_url, templates={NosanaWorker.type: template})
        shown.update("Saving blocks and automations")
        done.append(Registered("block", blocks.save_records(), "saved", "where results are; holds no secret"))
        if bucket_block:
            done.append(Registered("block", blocks.save_bucket(configured), "saved", "with the bucket's keys"))
        done += _automations(configured)
    out.print(_table(done))
    _print_next_steps(configured)


def _automations(configured: Settings) -> list[Registered]:
    outcome = automations.save(automations.zombies())
    minutes = automations.SILENCE.total_seconds() / 60
    done = [Registered("automation", automations.ZOMBIES, outcome, f"after {minutes:.0f} minutes of silence")]
    if webhook := blocks.save_webhook(configured):
        outcome = automations.save(automations.failures(webhook))
        done.append(Registered("automation", automations.FAILURES, outcome, "by the webhook of NOTIFY_URL"))
    return done


def _table(done: list[Registered]) -> Table:
    table = Table("", "name", "", "detail")
    for one in done:
        table.add_row(one.kind, Text(one.name), one.outcome, Text(one.detail))
    return table


def _print_next_steps(configured: Settings) -> None:
    """Print the next steps, with the settings that they need."""
    ui = str(configured.prefect_api_url).removesuffix("/").removesuffix("/api")
    note(f"See it all at {ui}")
    note("Jobs on Nosana: prefect worker start --pool nosana-gpu")
    note("  with REDIS_URL, NOSANA_API_KEY, NOSANA_WORKER_IMAGE, NOSANA_MARKET, CALLBACK_BASE_URL, GRANT_SECRET")
    note("Jobs on a machine of yours: prefect worker start --pool kangklip")
    note(f"The API submits to {configured.deployment}; DEPLOYMENT=clip/gpu sends its jobs to Nosana")
    if configured.notify_url is None:
        note("NOTIFY_URL is not set; set it to a webhook's address to be notified of failed runs")
