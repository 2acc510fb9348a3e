"""A run ends the attempt that it opened and touches no other."""

import pytest

from infra import settings
from infra.jobs.ids import new_job_id
from infra.jobs.record import JobRef, Report
from infra.jobs.store import JobStore
from infra.states import JobState
from tasks.core.request import ClipRequest

REQUEST = ClipRequest(video_url="http://127.0.0.1:9/talk.mp4")
OTHER_RUN = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def jobs(stack):
    return JobStore.from_settings(stack.settings)


@pytest.mark.parametrize("recorded", [REQUEST.model_dump_json(exclude_none=True), '{"clip_count": 99}'])
def test_a_run_refused_a_job_leaves_the_run_that_holds_it_alone(jobs, recorded):
    from flows.clip import clip
    from tasks.workspace import work_folder

    job_id = new_job_id()
    jobs.create(job_id, recorded)
    jobs.open(job_id, OTHER_RUN, 1, recorded, lease=True)
    folder = work_folder(JobRef(job_id=job_id), settings.load())
    folder.mkdir(parents=True)
    ended = clip(REQUEST, job_id, return_state=True)
    assert ended.is_failed()
    assert folder.is_dir(), "the files that the other run works on are gone"
    assert jobs.get(job_id).status is JobState.QUEUED


def test_an_attempt_ends_with_its_real_error_even_if_progress_cannot_be_shown(jobs, monkeypatch):
    from flows import run_display
    from flows.clip import clip

    def unavailable(**_):
        raise RuntimeError("no artifact can be made")

    monkeypatch.setattr(run_display, "create_progress_artifact", unavailable)
    job_id, recorded = new_job_id(), REQUEST.model_dump_json(exclude_none=True)
    jobs.create(job_id, recorded)
    jobs.open(job_id, OTHER_RUN, 1, recorded, lease=False)
    jobs.start_failed(job_id, 1, "It could not be started.", OTHER_RUN)
    assert clip(REQUEST, job_id, return_state=True).is_failed()
    job = jobs.get(job_id)
    assert (job.status, job.attempt) == (JobState.FAILED, 2)
    assert job.error.startswith("Port 9 is not allowed: use 80, 443, or 1024 and above.")


def test_a_killed_runs_folder_is_deleted_once_its_job_is_over_and_no_process_runs_it(stack, jobs):
    from tasks.workspace import sweep, work_folder

    configured = settings.load()
    recorded = REQUEST.model_dump_json(exclude_none=True)
    folders = {}
    for end in ("running", "failed", "failed and held"):
        job_id = new_job_id()
        jobs.create(job_id, recorded)
        jobs.open(job_id, OTHER_RUN, 1, recorded, lease=end != "failed")
        if end != "running":
            jobs.report(Report(job_id=job_id, attempt=1, status=JobState.FAILED, error="It broke."))
        if end == "running":
            jobs.leases.release(job_id)
        folders[end] = work_folder(JobRef(job_id=job_id), configured)
        folders[end].mkdir(parents=True)
    unknown = work_folder(JobRef(job_id=new_job_id()), configured)
    unknown.mkdir(parents=True)
    sweep(JobRef(job_id=new_job_id()), configured, jobs)
    assert {end: folder.exists() for end, folder in folders.items()} == {
        "running": True,
        "failed": False,
        "failed and held": True,
    }
    assert unknown.exists()


def test_sweep_tolerates_folders_that_disappear(stack):
    from tasks.workspace import sweep

    configured = settings.load()
    (configured.data_dir / "work").mkdir(parents=True, exist_ok=True)
    (configured.data_dir / "work" / "kk_gone-1").symlink_to("nowhere")  # listed, but does not exist
    sweep(JobRef(job_id=new_job_id()), configured)
