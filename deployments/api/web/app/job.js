// The page of one job: its progress, its results, and the actions on it.

import { ask, jobPath, keepApiKey, now, Refused } from "./api.js";
import { byId, make, show, webAddress, write } from "./dom.js";
import { Follower } from "./follow.js";
import { forgetJob, keepJob } from "./memory.js";
import { cards, notes } from "./results.js";
import { Timeline } from "./timeline.js";
import { clips, formatTime, hasEnded, formatDuration, asSentence, STAGES, displayStatus, subject } from "./words.js";

const LONG_WAIT = 60; // seconds in the queue before the page explains the wait
const RETRY = 2_000; // milliseconds before results are requested again

const jobId = decodeURIComponent(location.pathname.split("/").pop());
const main = byId("main");
const timeline = new Timeline(byId("timeline"));
const follower = new Follower(jobId, receive, showLink);
let job = null;
let asOf = 0;
let resultsOf = 0; // the attempt whose results are shown or requested
let clipCount = 0;

/** Applies a report unless it is older than the current one: after a lost connection, events are repeated. */
function receive(report, whole) {
  asOf = now();
  const update = { ...report, progress: Number(report.progress), attempt: Number(report.attempt) };
  if (!job && !whole) return void follower.once();
  if (job && isOlder(update, job)) return;
  const hasChanged = !job || ["status", "stage", "attempt"].some((field) => update[field] !== job[field]);
  if (job && hasChanged && !whole) follower.once();
  const isNewAttempt = job && update.attempt !== job.attempt;
  job = { ...job, ...(isNewAttempt && { stages: {}, next_step: null }), ...update };
  if (hasChanged) {
    say(spoken(job));
    keepJob({ id: jobId, status: displayStatus(job), ...(job.request && remembered(job)) });
  }
  draw();
}

function isOlder(update, known) {
  if (update.attempt !== known.attempt) return update.attempt < known.attempt;
  if (hasEnded(known.status)) return !hasEnded(update.status);
  return !hasEnded(update.status) && update.progress < known.progress;
}

const remembered = ({ request, created_at: at }) => ({
  url: request.video_url ?? "",
  name: request.source_name ?? undefined,
  seconds: request.clip_duration_seconds,
  count: request.clip_count,
  at,
});

const say = (text) => write(byId("announcement"), text);

/** What a screen reader hears when the job's state changes. */
function spoken({ stage, error, ...rest }) {
  const status = displayStatus({ error, ...rest });
  if (status === "CANCELLED") return "The job was cancelled.";
  if (status === "RUNNING") return `${stageOf(stage)?.doing ?? "Finishing"}.`;
  return { QUEUED: "Waiting for a worker.", SUCCEEDED: "The clips are ready.", FAILED: `Failed. ${error ?? ""}` }[status];
}

const stageOf = (name) => STAGES.find((stage) => stage.name === name);

function draw() {
  main.dataset.status = displayStatus(job);
  main.removeAttribute("aria-busy");
  drawSubject();
  drawState();
  drawActions();
  show(byId("stages"), true);
  timeline.draw(job);
  tick();
  if (job.status === "SUCCEEDED" && resultsOf !== job.attempt) showResults();
  if (job.status !== "SUCCEEDED") show(byId("results"), false);
}

function drawSubject() {
  const { video_url: url, source_name: name, clip_count: count, clip_duration_seconds: seconds, language } = job.request ?? {};
  const address = url && webAddress(url);
  const place = byId("subject");
  const text = url ? subject(url) : (name ?? "");
  if (place.textContent !== text) {
    place.replaceChildren(address ? make("a", { href: address.href, rel: "noreferrer noopener" }, text) : text);
  }
  const facts = [
    count && seconds && `${clips(count)} of up to ${seconds} s`,
    language && (language === "auto" ? "language detected automatically" : languageName(language)),
    job.created_at && `requested at ${formatTime(job.created_at)}`,
    job.attempt > 1 && `attempt ${job.attempt}`,
  ];
  write(byId("facts"), facts.filter(Boolean).join(" · "));
  write(byId("job-id"), jobId);
  byId("attempts").replaceChildren(...earlierAttempts(job).map((text) => make("li", {}, text)));
}

/** Why each earlier attempt ended. */
const earlierAttempts = ({ attempts = [], attempt }) =>
  attempts.filter(({ number, reason }) => number < attempt && reason).map(({ number, reason }) => `Attempt ${number}: ${asSentence(reason)}`);

function languageName(code) {
  try {
    return new Intl.DisplayNames("en", { type: "language" }).of(code === "jw" ? "jv" : code);
  } catch {
    return code;
  }
}

function drawState() {
  const stage = stageOf(job.stage);
  const heading = {
    QUEUED: job.start_error ? "Not started" : "Waiting for a worker",
    RUNNING: stage?.doing ?? "Finishing",
    SUCCEEDED: clipCount ? `${clips(clipCount)} ready` : "Your clips are ready",
    FAILED: "The job failed",
    CANCELLED: "Cancelled",
  }[displayStatus(job)];
  const percent = String(Math.floor(job.progress));
  write(byId("state"), heading ?? job.status);
  document.title = `${job.status === "RUNNING" ? `${percent}% · ` : ""}${heading} · KangKlip`;
  show(byId("overall"), job.status === "RUNNING");
  write(byId("percent"), percent);
  byId("bar").setAttribute("aria-valuenow", percent);
  byId("bar").style.setProperty("--share", `${job.progress}%`);
  show(byId("failure"), displayStatus(job) === "FAILED");
  if (job.status === "FAILED") {
    const next = job.next_step ?? "";
    const reason = job.error || job.start_error || "No reason was given.";
    const cause = next && reason.endsWith(next) ? reason.slice(0, -next.length) : reason;
    write(byId("error"), asSentence(cause));
    write(byId("next-step"), next);
  }
}

/** The sentence below the heading, updated every second. */
function detail() {
  if (job.status === "QUEUED") {
    if (job.start_error) return `The job could not be submitted. ${asSentence(job.start_error)}`;
    if (job.message) return asSentence(job.message);
    const since = job.attempt > 1 ? job.updated_at : job.created_at;
    if (!since) return "The job is in the queue.";
    const waiting = `In the queue since ${formatTime(since)}, for ${formatDuration(now() - since)}.`;
    const meaning = " No worker has picked it up yet. It starts when one is free. You can close this page.";
    return now() - since > LONG_WAIT ? waiting + meaning : waiting;
  }
  if (displayStatus(job) === "CANCELLED") return "The job was stopped. Click Try again to resume it.";
  const begun = Object.values(job.stages ?? {}).map(({ began }) => began);
  if (!begun.length || job.status === "FAILED") return "";
  const took = formatDuration(ended(job) - Math.min(...begun));
  return job.status === "SUCCEEDED" ? `Finished in ${took}.` : `Working for ${took}.`;
}

function ended({ status, stages, updated_at: updated }) {
  if (status === "RUNNING") return now();
  const ends = Object.values(stages).map((times) => times.ended).filter(Number.isFinite);
  return ends.length ? Math.max(...ends) : updated;
}

function tick() {
  if (!job) return;
  write(byId("detail"), detail());
  timeline.tick(job);
}

function drawActions() {
  const failed = job.status === "FAILED";
  const notStarted = job.status === "QUEUED" && Boolean(job.start_error);
  const { start, again, cancel } = { start: byId("start"), again: byId("again"), cancel: byId("cancel") };
  show(start, failed || notStarted);
  write(start, failed ? "Try again" : "Start");
  show(again, failed);
  again.href = `/#${jobId}`;
  show(cancel, !hasEnded(job.status));
  show(byId("delete"), hasEnded(job.status));
}

function showLink(how, error) {
  const messages = {
    live: "",
    polling: document.hidden ? "" : "Live updates are interrupted. Refreshing every two seconds instead.",
    lost: asOf ? `${asSentence(error?.message ?? "")} Last updated at ${formatTime(asOf, true)}. Retrying.` : `${asSentence(error?.message ?? "")} Retrying.`,
    gone: "",
  };
  write(byId("connection"), messages[how]);
  show(byId("connection"), messages[how] !== "");
  if (how === "gone" && main.dataset.status !== "GONE") showGone("Job not found", "The link may be wrong, or the job may have been deleted.");
}

/** Leaves nothing of the job on the page but what became of it. */
function showGone(heading, text) {
  job = null;
  main.dataset.status = "GONE";
  main.removeAttribute("aria-busy");
  write(byId("state"), heading);
  write(byId("detail"), text);
  document.title = `${heading} · KangKlip`;
  byId("clips").replaceChildren(); // stops the players
  for (const id of ["subject", "facts", "attempts"]) byId(id).replaceChildren();
  const parts = ["overall", "failure", "key-field", "results", "stages", "start", "again", "cancel", "delete"];
  for (const id of parts) show(byId(id), false);
}

function showDeleted() {
  follower.stop();
  forgetJob(jobId);
  showGone("Job deleted", "Its clips are deleted too.");
  say("The job was deleted.");
  byId("state").focus(); // the button that had the focus is gone
}

/** Fetches the results, and retries while the server is unreachable and the job still has results. */
async function showResults() {
  const attempt = job.attempt;
  resultsOf = attempt;
  show(byId("results"), true);
  try {
    const { clips: found } = await ask(jobPath(jobId, "/results"));
    clipCount = found.length;
    byId("clips").dataset.count = clipCount;
    byId("clips").replaceChildren(...cards(jobId, found, job.revision, say));
    byId("download-all").href = jobPath(jobId, "/clips.zip");
    show(byId("download-all"), clipCount > 0);
    write(byId("results-error"), "");
    drawState();
  } catch (error) {
    write(byId("results-error"), `The clips are ready but cannot be shown yet. ${asSentence(error.message)} Retrying.`);
    setTimeout(() => job?.status === "SUCCEEDED" && showResults(), RETRY);
    return;
  }
  showNotes(await ask(jobPath(jobId, "/manifest")).catch(() => null));
}

function showNotes(manifest) {
  byId("notes").replaceChildren(...notes(manifest).map((note) => make("li", {}, note)));
}

/** Performs a button's action, then `done`. If the server requires a key, shows the field for it. */
async function act(button, path, { method = "POST", done = () => follower.start() } = {}) {
  if (button.getAttribute("aria-disabled")) return;
  button.setAttribute("aria-disabled", "true");
  write(byId("action-error"), "");
  if (byId("api_key").value) keepApiKey(byId("api_key").value);
  try {
    const answer = await ask(jobPath(jobId, path), { method });
    if (answer.ok === false) throw new Refused(200, answer.start_error ?? "the job could not be started");
    show(byId("key-field"), false);
    done();
  } catch (error) {
    refused(error);
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

function refused(error) {
  const first = byId("key-field").hidden;
  if (error instanceof Refused && error.status === 401) {
    show(byId("key-field"), true);
    byId("api_key").focus();
    if (first) return;
  }
  write(byId("action-error"), asSentence(error.message));
}

/** Lets the button `id` ask in its dialog first. */
function confirmThen(id, action) {
  const [button, dialog] = [byId(id), byId(`confirm-${id}`)];
  button.addEventListener("click", () => {
    dialog.returnValue = "";
    dialog.showModal();
  });
  dialog.addEventListener("close", () => dialog.returnValue === id && action(button));
}

byId("start").addEventListener("click", ({ target }) => act(target, "/start"));
confirmThen("cancel", (button) => act(button, "/cancel"));
confirmThen("delete", (button) => act(button, "", { method: "DELETE", done: showDeleted }));
window.addEventListener("pageshow", (event) => event.persisted && job?.revision && location.reload()); // the clips may have been edited
setInterval(tick, 1_000);
follower.start();
