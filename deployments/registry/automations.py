"""Automations on the Prefect server: runs whose process is dead are ended, and failures are told."""

from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from deployments.registry.register import Outcome

FLOWS = ["clip", "batch"]
SILENCE = timedelta(minutes=10)
"""Three heartbeats of Prefect's, which come every 180 seconds. A job's own lease tells the API much sooner."""
ZOMBIES = "KangKlip: end runs whose process has died"
FAILURES = "KangKlip: tell of failed runs"
_RUN_STATE = "prefect.flow-run."


def zombies(silence: timedelta = SILENCE) -> AutomationCore:
    """Ends a run as Crashed that has sent heartbeats, sends none any more, and has not ended."""
    heartbeat = "prefect.flow-run.heartbeat"
    ends = {_RUN_STATE + state for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    trigger = _trigger(posture=Posture.Proactive, after={heartbeat}, expect={heartbeat, *ends}, within=silence)
    message = "The process that ran this has died: its heartbeat has stopped."
    action = ChangeFlowRunState(name="Crashed", state=StateType.CRASHED, message=message, force=False)
    told = "A run whose heartbeat has stopped before it ended is Crashed."
    return AutomationCore(name=ZOMBIES, description=told, trigger=trigger, actions=[action])


def failures(webhook: UUID) -> AutomationCore:
    """Calls the block's address when a run has failed or crashed: `{"text": "..."}`, as chats take it."""
    ends = {_RUN_STATE + state for state in ("Failed", "Crashed")}
    trigger = _trigger(posture=Posture.Reactive, expect=ends, threshold=1, within=timedelta(0))
    said = '"KangKlip: " ~ flow.name ~ " " ~ flow_run.name ~ " " ~ flow_run.state.name ~ " " ~ (flow_run | ui_url)'
    action = CallWebhook(block_document_id=webhook, payload='{"text": {{ (' + said + ") | tojson }}}")
    told = "Calls NOTIFY_URL when a run has failed or crashed."
    return AutomationCore(name=FAILURES, description=told, trigger=trigger, actions=[action])


def save(wanted: AutomationCore) -> Outcome:
    """Have the automation on the server. Its switch stays as it was turned."""
    with get_client(sync_client=True) as client:
        known = _known(client, wanted.name)
        if known is None:
            client.create_automation(wanted)
            return "made"
        ident, there = known
        wanted = wanted.model_copy(update={"enabled": there.enabled})
        if wanted == there:
            return "there already"
        client.update_automation(ident, wanted)
        return "changed"


def _trigger(**options: object) -> EventTrigger:
    """A trigger of each run by itself, of our flows only: the server may have others."""
    return EventTrigger.model_validate(
        options
        | {
            "match": ResourceSpecification({"prefect.resource.id": [_RUN_STATE + "*"]}),
            "match_related": ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": FLOWS}),
            "for_each": {"prefect.resource.id"},
        }
    )


def _known(client: SyncPrefectClient, name: str) -> tuple[UUID, AutomationCore] | None:
    found = client.read_automations_by_name(name)
    if not found:
        return None
    there = AutomationCore.model_validate(found[0].model_dump(exclude={"id"}))
    return found[0].id, there
