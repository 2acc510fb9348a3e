// The six stages of a job as a list that is changed in place, never rebuilt.

import { now } from "./api.js";
import { make, show, write } from "./dom.js";
import { clock, lasting, STAGES, standingOf } from "./words.js";

const SPOKEN = { waiting: "not yet", active: "in progress", done: "done", failed: "failed here", stopped: "stopped here" };

/** Which stage is in which state: ["done", "active", "waiting", …]. */
export function standing(job) {
  const at = STAGES.findIndex((stage) => stage.name === job.stage);
  const began = STAGES.map((stage) => Boolean(job.stages?.[stage.name]));
  if (job.status === "QUEUED") return STAGES.map(() => "waiting");
  if (job.status === "SUCCEEDED") return STAGES.map(() => "done");
  const current = at >= 0 ? at : job.status === "RUNNING" ? STAGES.length : began.lastIndexOf(true);
  const end = standingOf(job) === "CANCELLED" ? "stopped" : "failed";
  const here = job.status === "FAILED" ? (began[current] ? end : "waiting") : "active";
  return STAGES.map((_, index) => (index < current ? "done" : index === current ? here : "waiting"));
}

/** How much of a stage is done, 0 to 1. */
const share = (stage, progress) => Math.min(1, Math.max(0, (progress - stage.begin) / (stage.end - stage.begin)));

export class Timeline {
  #rows;

  constructor(list) {
    this.#rows = STAGES.map(row);
    list.replaceChildren(...this.#rows.map((parts) => parts.item));
  }

  draw(job) {
    standing(job).forEach((state, index) => this.#drawRow(this.#rows[index], STAGES[index], state, job));
  }

  /** The seconds go on between two reports. */
  tick(job) {
    standing(job).forEach((state, index) => drawTimes(this.#rows[index], STAGES[index], state, job));
  }

  #drawRow(parts, stage, state, job) {
    parts.item.dataset.state = state;
    if (state === "active") parts.item.setAttribute("aria-current", "step");
    else parts.item.removeAttribute("aria-current");
    write(parts.spoken, `: ${SPOKEN[state]}`);
    write(parts.message, state === "active" ? job.message || stage.doing : "");
    const percent = Math.round(share(stage, job.progress) * 100);
    show(parts.bar, state === "active");
    parts.bar.setAttribute("aria-valuenow", percent);
    parts.bar.style.setProperty("--share", `${percent}%`);
    drawTimes(parts, stage, state, job);
  }
}

function row(stage) {
  const parts = {
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
  const head = make("div", { class: "row" }, make("h3", {}, stage.title, parts.spoken), parts.took);
  parts.item = make("li", {}, head, parts.message, parts.bar, parts.began);
  return parts;
}

/** A stage that a later attempt did not have to do again has no times in it. */
function drawTimes(parts, stage, state, job) {
  const times = job.stages?.[stage.name];
  const known = times && state !== "waiting";
  const seconds = known && (times.ended ?? now()) - times.began;
  const kept = state === "done" && !times && job.attempt > 1 ? "kept from before" : "";
  write(parts.took, known ? (times.ended && seconds < 1 ? "under 1 s" : lasting(seconds)) : kept);
  write(parts.began, known ? `from ${clock(times.began, true)}` : "");
}
