// The form: validates the input, remembers the last settings, and lists this browser's jobs.

import { ask, jobPath, keepApiKey, Refused } from "./api.js";
import { byId, make, show, webAddress, write } from "./dom.js";
import { chosenFile, uploadedFile } from "./file.js";
import { forgetJobs, keepChoice, keepJob, lastChoice, recentJobs } from "./memory.js";
import { asSentence, clips, displayStatus, formatPosition, formatTime, hasEnded, readPosition, STATES, subject } from "./words.js";

const FIELDS = ["video_url", "clip_duration_seconds", "clip_count", "language", "start_seconds", "end_seconds", "caption_preset", "ratio", "framing", "tighten", "topic", "api_key"];
const LOOKS = ["caption_preset", "ratio", "framing"];
const LONGEST_ADDRESS = 4096;
const form = byId("form");
let sending = { body: "", key: "" };

function choice() {
  return {
    clip_duration_seconds: Number(form.elements.clip_duration_seconds.value),
    clip_count: Number(form.elements.clip_count.value),
    language: form.elements.language.value,
  };
}

/** The part of the video in the form: only the ends that are filled in. */
function part() {
  const ends = ["start_seconds", "end_seconds"].map((name) => [name, readPosition(form.elements[name].value)]);
  return Object.fromEntries(ends.filter(([, seconds]) => seconds !== null));
}

/** What the clips shall be about, if anything. */
function topic() {
  const text = form.elements.topic.value.trim();
  return text ? { topic: text } : {};
}

/** How the clips shall look: only what differs from the usual. */
function looks() {
  const chosen = LOOKS.map((name) => [name, form.elements[name].value]).filter(([, value]) => value);
  return { ...Object.fromEntries(chosen), ...(form.elements.tighten.checked && { tighten: true }) };
}

/** Fills the form, ignoring values that it does not offer. */
function fill(values) {
  for (const name of ["clip_duration_seconds", "clip_count", ...LOOKS]) {
    const radio = [...form.elements[name]].find((option) => option.value === String(values[name]));
    if (radio) radio.checked = true;
  }
  const { language } = form.elements;
  if ([...language.options].some((option) => option.value === values.language)) language.value = values.language;
  if (typeof values.video_url === "string") form.elements.video_url.value = values.video_url;
  if (typeof values.topic === "string") form.elements.topic.value = values.topic;
  if (values.tighten === true) form.elements.tighten.checked = true;
  if (Object.keys(looks()).length) byId("looks").open = true;
  for (const name of ["start_seconds", "end_seconds"]) {
    if (!(values[name] > 0)) continue;
    form.elements[name].value = formatPosition(values[name]);
    byId("part").open = true;
  }
}

/** Draws one vertical frame per clip, labelled with its length. */
function drawFrames() {
  const { clip_count: count, clip_duration_seconds: seconds } = choice();
  const frames = byId("frames");
  while (frames.childElementCount < 5) frames.append(make("span"));
  [...frames.children].forEach((frame, index) => {
    frame.classList.toggle("on", index < count);
    write(frame, index < count ? `${seconds} s` : "");
  });
}

/** What is wrong with the link, as a sentence, or an empty string. */
function wrongAddress(text) {
  if (!text) return "Paste a link to a video.";
  if (text.length > LONGEST_ADDRESS) return "This link is too long.";
  const url = webAddress(text);
  if (!url || /\s/.test(text)) return "Enter a link that starts with https:// or http://.";
  return url.hostname.includes(".") || url.hostname === "localhost" || url.hostname.startsWith("[")
    ? ""
    : `“${url.hostname}” is not a valid site name.`;
}

/** What is wrong with the part of the video: the field and a sentence, or null. */
function wrongPart() {
  const { start_seconds: start = 0, end_seconds: end = Infinity } = part();
  if (Number.isNaN(start)) return ["start_seconds", "Enter a time such as 90, 12:30 or 1:02:03."];
  if (Number.isNaN(end)) return ["end_seconds", "Enter a time such as 90, 12:30 or 1:02:03."];
  return end <= start ? ["end_seconds", "This must be later than the time in “From”."] : null;
}

/** Sets or clears the error of a field. */
function mark(name, wrong) {
  write(byId(`${name}-error`), wrong);
  const control = form.elements[name];
  for (const input of control instanceof RadioNodeList ? control : [control]) {
    if (wrong) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }
}

function clearMarks() {
  for (const name of FIELDS) mark(name, "");
  write(byId("form-error"), "");
}

/** Adds the https:// that people often leave out. */
function complete(input) {
  const text = input.value.trim();
  input.value = /^[\w-]+(\.[\w-]+)+([/?#:]|$)/.test(text) ? `https://${text}` : text;
}

function focus(name) {
  if (name === "start_seconds" || name === "end_seconds") byId("part").open = true;
  if (LOOKS.includes(name) || name === "tighten") byId("looks").open = true;
  const control = form.elements[name];
  (control instanceof RadioNodeList ? control[0] : control).focus();
}

/** Shows an error at the field that it names, or else below the button. */
function explain(error) {
  if (error instanceof Refused && error.status === 401) {
    const field = byId("key-field");
    mark("api_key", field.hidden ? "" : "This key was not accepted.");
    show(field, true);
    return focus("api_key");
  }
  const name = error instanceof Refused && error.status === 400 && FIELDS.find((field) => error.detail.startsWith(field));
  if (name) {
    mark(name, asSentence(error.detail.replace(name, "This")));
    return focus(name);
  }
  const advice = error instanceof Refused && error.status < 500 ? "" : " Nothing was lost. Try again in a moment.";
  return write(byId("form-error"), asSentence(error.message) + advice);
}

/** The key that makes the server return the same job if a request is repeated after a lost answer. */
function idempotencyKey(body) {
  if (sending.body !== body) {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    sending = { body, key: Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("") };
  }
  return sending.key;
}

async function send(event) {
  event.preventDefault();
  const button = byId("send");
  if (button.getAttribute("aria-disabled")) return;
  const address = form.elements.video_url;
  const file = chosenFile();
  complete(address);
  clearMarks();
  const wrong = file ? "" : wrongAddress(address.value);
  if (wrong) {
    mark("video_url", wrong);
    focus("video_url");
    return;
  }
  const wrongEnd = wrongPart();
  if (wrongEnd) {
    mark(...wrongEnd);
    focus(wrongEnd[0]);
    return;
  }
  if (form.elements.api_key.value) keepApiKey(form.elements.api_key.value);
  button.setAttribute("aria-disabled", "true");
  write(button, file ? "Uploading…" : "Sending…");
  try {
    const body = { ...(file ? { upload: await uploadedFile() } : { video_url: address.value }), ...choice(), ...topic(), ...looks(), ...part() };
    write(button, "Sending…");
    const headers = { "idempotency-key": idempotencyKey(JSON.stringify(body)) };
    const { job_id: id, status } = await ask("/api/jobs", { method: "POST", body, headers });
    keepChoice({ ...choice(), ...looks() });
    keepJob({ id, url: body.video_url ?? "", name: file?.name, seconds: body.clip_duration_seconds, count: body.clip_count, at: Date.now() / 1000, status });
    location.assign(`/jobs/${encodeURIComponent(id)}`);
  } catch (error) {
    explain(error);
  } finally {
    button.removeAttribute("aria-disabled");
    write(button, "Make clips");
  }
}

function recentRow(job) {
  const state = make("span", { class: "state", "data-status": job.status }, STATES[job.status] ?? "");
  const facts = [job.count && job.seconds && `${clips(job.count)} of ${job.seconds} s`, job.at && formatTime(job.at)];
  const link = make("a", { href: `/jobs/${encodeURIComponent(job.id)}` }, job.url ? subject(job.url) : (job.name ?? job.id));
  return make("li", {}, link, make("span", { class: "facts" }, facts.filter(Boolean).join(" · ")), state);
}

/** Fetches a job's state; a job that the server no longer has is marked as expired. */
async function refresh(job, row) {
  const state = row.querySelector(".state");
  try {
    const found = await ask(jobPath(job.id));
    const [status, progress] = [displayStatus(found), found.progress];
    keepJob({ id: job.id, status });
    state.dataset.status = status;
    write(state, (STATES[status] ?? "") + (status === "RUNNING" ? ` ${Math.floor(progress)}%` : ""));
  } catch (error) {
    if (error instanceof Refused && error.status === 404) write(state, "Expired");
  }
}

function listRecent() {
  const jobs = recentJobs();
  const rows = jobs.map(recentRow);
  byId("recent-jobs").replaceChildren(...rows);
  show(byId("recent"), jobs.length > 0);
  jobs.forEach((job, index) => hasEnded(job.status) || refresh(job, rows[index]));
}

/** `/#kk_…` fills the form with that job's request, unless the user is already typing. */
async function fillFromJob() {
  const id = location.hash.slice(1);
  if (!/^kk_\w{26}$/.test(id)) return;
  try {
    const { request } = await ask(jobPath(id));
    const { video_url: address } = form.elements;
    if (!address.value && document.activeElement !== address) fill(request ?? {});
    drawFrames();
  } catch {
    // The form stays as it is.
  }
}

form.addEventListener("submit", send);
form.addEventListener("change", drawFrames);
form.elements.video_url.addEventListener("blur", ({ target }) => {
  complete(target);
  if (target.value || byId("video_url-error").textContent) mark("video_url", wrongAddress(target.value));
});
form.elements.video_url.addEventListener("input", ({ target }) => {
  if (!wrongAddress(target.value.trim())) mark("video_url", "");
});
byId("forget").addEventListener("click", () => {
  forgetJobs();
  listRecent();
  byId("video_url").focus();
});
window.addEventListener("pageshow", listRecent);

fill(lastChoice());
drawFrames();
fillFromJob();
