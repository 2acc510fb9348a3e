"""Automations on the Prefect server: end runs whose process has died, and report failed runs to a webhook."""

from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from deployments.registry.register import Outcome

FLOWS = ["clip", "recut", "batch", "housekeeping"]
SILENCE = timedelta(minutes=10)
"""Three of Prefect's heartbeats, which come every 180 seconds. The API notices much sooner, by the job's lease."""
ZOMBIES = "KangKlip: end runs whose process has died"
FAILURES = "KangKlip: report failed runs"
_FORMER_NAMES = {FAILURES: "KangKlip: tell of failed runs"}
_RUN_STATE = "prefect.flow-run."


def zombies(silence: timedelta = SILENCE) -> AutomationCore:
    """Marks a run as Crashed when its heartbeats stop before it ends."""
    heartbeat = "prefect.flow-run.heartbeat"
    ends = {_RUN_STATE + state for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    trigger = _trigger(posture=Posture.Proactive, after={heartbeat}, expect={heartbeat, *ends}, within=silence)
    message = "The process that ran this has died: its heartbeat has stopped."
    action = ChangeFlowRunState(name="Crashed", state=StateType.CRASHED, message=message, force=False)
    description = "Marks a run as Crashed if its heartbeat stops before it ends."
    return AutomationCore(name=ZOMBIES, description=description, trigger=trigger, actions=[action])


def failures(webhook: UUID) -> AutomationCore:
    """POSTs `{"text": "..."}`, the format of chat webhooks, to the block's address when a run fails or crashes."""
    ends = {_RUN_STATE + state for state in ("Failed", "Crashed")}
    trigger = _trigger(posture=Posture.Reactive, expect=ends, threshold=1, within=timedelta(0))
    text = '"KangKlip: " ~ flow.name ~ " " ~ flow_run.name ~ " " ~ flow_run.state.name ~ " " ~ (flow_run | ui_url)'
    action = CallWebhook(block_document_id=webhook, payload='{"text": {{ (' + text + ") | tojson }}}")
    description = "Calls NOTIFY_URL when a run fails or crashes."
    return AutomationCore(name=FAILURES, description=description, trigger=trigger, actions=[action])


def save(wanted: AutomationCore) -> Outcome:
    """Create or update the automation, or rename it, but leave it enabled or disabled as the operator set it."""
    with get_client(sync_client=True) as client:
        found = _find(client, wanted.name) or _find(client, _FORMER_NAMES.get(wanted.name, ""))
        if found is None:
            client.create_automation(wanted)
            return "created"
        automation_id, existing = found
        wanted = wanted.model_copy(update={"enabled": existing.enabled})
        if wanted == existing:
            return "unchanged"
        client.update_automation(automation_id, wanted)
        return "updated"


def _trigger(**options: object) -> EventTrigger:
    """A trigger for runs of our flows only; the server may run others."""
    return EventTrigger.model_validate(
        options
        | {
            "match": ResourceSpecification({"prefect.resource.id": [_RUN_STATE + "*"]}),
            "match_related": ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": FLOWS}),
            "for_each": {"prefect.resource.id"},
        }
    )


def _find(client: SyncPrefectClient, name: str) -> tuple[UUID, AutomationCore] | None:
    found = client.read_automations_by_name(name)
    if not found:
        return None
    return found[0].id, AutomationCore.model_validate(found[0].model_dump(exclude={"id"}))
