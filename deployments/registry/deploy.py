"""`kangklip deploy`: register everything that a Prefect server needs. Safe to repeat."""

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
        ConfigError: PREFECT_API_URL is not set, or the bucket block needs settings that are not set.
        SubmitError: the Prefect server does not answer, or refuses.
        StackError: a pool exists with another type, or `prefect deploy` failed.
    """
    configured = settings.load()
    if configured.prefect_api_url is None:
        raise ConfigError("Set PREFECT_API_URL to your Prefect server; to use only this machine, run: kangklip up")
    with console.status("Registering work pools and deployments") as shown:
        template = NosanaWorker.get_default_base_job_template()
        done = register(configured.prefect_api_url, templates={NosanaWorker.type: template})
        shown.update("Saving blocks and automations")
        done.append(Registered("block", blocks.save_records(), "saved", "where results are stored; no secrets"))
        if bucket_block:
            done.append(Registered("block", blocks.save_bucket(configured), "saved", "includes the bucket's keys"))
        done += _automations(configured)
    out.print(_table(done))
    _print_next_steps(configured)


def _automations(configured: Settings) -> list[Registered]:
    outcome = automations.save(automations.zombies())
    minutes = automations.SILENCE.total_seconds() / 60
    done = [Registered("automation", automations.ZOMBIES, outcome, f"after {minutes:.0f} minutes without a heartbeat")]
    if webhook := blocks.save_webhook(configured):
        outcome = automations.save(automations.failures(webhook))
        done.append(Registered("automation", automations.FAILURES, outcome, "to the webhook in NOTIFY_URL"))
    return done


def _table(done: list[Registered]) -> Table:
    table = Table("", "name", "", "detail")
    for entry in done:
        table.add_row(entry.kind, Text(entry.name), entry.outcome, Text(entry.detail))
    return table


def _print_next_steps(configured: Settings) -> None:
    """Print the next steps and the settings they need."""
    ui = str(configured.prefect_api_url).removesuffix("/").removesuffix("/api")
    note(f"View them at {ui}")
    note("To run jobs on Nosana: prefect worker start --pool nosana-gpu")
    note("  with REDIS_URL, NOSANA_API_KEY, NOSANA_WORKER_IMAGE, NOSANA_MARKET, CALLBACK_BASE_URL, GRANT_SECRET")
    note("To run jobs on your own machine: prefect worker start --pool kangklip")
    note(f"The API submits jobs to {configured.deployment}; set DEPLOYMENT=clip/gpu to send them to Nosana")
    if configured.notify_url is None:
        note("To be notified of failed runs, set NOTIFY_URL to a webhook")
