// The six stages of a job, as a list updated in place.

import { now } from "./api.js";
import { make, show, write } from "./dom.js";
import { formatTime, formatDuration, STAGES, displayStatus } from "./words.js";

const SPOKEN = { waiting: "not yet", active: "in progress", done: "done", failed: "failed here", stopped: "stopped here" };

/** The state of each stage: ["done", "active", "waiting", …]. */
export function stageStates(job) {
  const at = STAGES.findIndex((stage) => stage.name === job.stage);
  const began = STAGES.map((stage) => Boolean(job.stages?.[stage.name]));
  if (job.status === "QUEUED") return STAGES.map(() => "waiting");
  if (job.status === "SUCCEEDED") return STAGES.map(() => "done");
  const current = at >= 0 ? at : job.status === "RUNNING" ? STAGES.length : began.lastIndexOf(true);
  const end = displayStatus(job) === "CANCELLED" ? "stopped" : "failed";
  const here = job.status === "FAILED" ? (began[current] ? end : "waiting") : "active";
  return STAGES.map((_, index) => (index < current ? "done" : index === current ? here : "waiting"));
}

/** The finished share of a stage, 0 to 1. */
const share = (stage, progress) => Math.min(1, Math.max(0, (progress - stage.begin) / (stage.end - stage.begin)));

export class Timeline {
  #rows;

  constructor(list) {
    this.#rows = STAGES.map(row);
    list.replaceChildren(...this.#rows.map((cells) => cells.item));
  }

  draw(job) {
    stageStates(job).forEach((state, index) => this.#drawRow(this.#rows[index], STAGES[index], state, job));
  }

  /** Updates the durations between reports. */
  tick(job) {
    stageStates(job).forEach((state, index) => drawTimes(this.#rows[index], STAGES[index], state, job));
  }

  #drawRow(cells, stage, state, job) {
    cells.item.dataset.state = state;
    if (state === "active") cells.item.setAttribute("aria-current", "step");
    else cells.item.removeAttribute("aria-current");
    write(cells.spoken, `: ${SPOKEN[state]}`);
    write(cells.message, state === "active" ? job.message || stage.doing : "");
    const percent = Math.round(share(stage, job.progress) * 100);
    show(cells.bar, state === "active");
    cells.bar.setAttribute("aria-valuenow", percent);
    cells.bar.style.setProperty("--share", `${percent}%`);
    drawTimes(cells, stage, state, job);
  }
}

function row(stage) {
  const cells = {
    spoken: make("span", { class: "unseen" }),
    took: make("span", { class: "took" }),
    began: make("span", { class: "began" }),
    message: make("p", { class: "message" }),
    bar: make(
      "div",
      { class: "bar", role: "progressbar", "aria-label": stage.title, "aria-valuemin": 0, "aria-valuemax": 100, hidden: true },
      make("span"),
    ),
  };
  const head = make("div", { class: "row" }, make("h3", {}, stage.title, cells.spoken), cells.took);
  cells.item = make("li", {}, head, cells.message, cells.bar, cells.began);
  return cells;
}

/** A stage has no times if this attempt reused its result. */
function drawTimes(cells, stage, state, job) {
  const times = job.stages?.[stage.name];
  const known = times && state !== "waiting";
  const seconds = known && (times.ended ?? now()) - times.began;
  const kept = state === "done" && !times && job.attempt > 1 ? "reused" : "";
  write(cells.took, known ? (times.ended && seconds < 1 ? "under 1 s" : formatDuration(seconds)) : kept);
  write(cells.began, known ? `started at ${formatTime(times.began, true)}` : "");
}
