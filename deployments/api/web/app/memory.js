// What this browser stores: the last settings, its recent jobs, and drafts of edited clips. Without storage, nothing.

const CHOICE = "kangklip.choice";
const JOBS = "kangklip.jobs";
const SENT_FILES = "kangklip.uploads";
const DRAFTS = "kangklip.draft";
const MOST = 12;
const MOST_DRAFTS = 40;

export const lastChoice = () => read(CHOICE, {});
export const keepChoice = (choice) => keep(CHOICE, choice);

/** Newest first: [{id, url, name, seconds, count, at, status}]. */
export function recentJobs() {
  const jobs = read(JOBS, []);
  return Array.isArray(jobs) ? jobs.filter((job) => typeof job?.id === "string") : [];
}

/** Adds a job, or updates it. */
export function keepJob(job) {
  const jobs = recentJobs();
  const known = jobs.find((other) => other.id === job.id);
  if (known) Object.assign(known, job);
  keep(JOBS, known ? jobs : [job, ...jobs].slice(0, MOST));
}

/** The address of this file's unfinished or finished upload, or an empty string. */
export const knownUpload = (file) => uploads().find((known) => known.file === file)?.url ?? "";
export const keepUpload = (file, url) => keep(SENT_FILES, [{ file, url }, ...others(file)].slice(0, MOST));
export const forgetUpload = (file) => keep(SENT_FILES, others(file));

function uploads() {
  const known = read(SENT_FILES, []);
  return Array.isArray(known) ? known.filter(({ url } = {}) => /^\/api\/uploads\/\w+$/.test(url)) : [];
}

const others = (file) => uploads().filter((known) => known.file !== file);

/** Forgets a job, and the drafts of its clips. */
export function forgetJob(id) {
  keep(JOBS, recentJobs().filter((job) => job.id !== id));
  for (const name of draftNames(id)) drop(name);
}

export const forgetJobs = () => keep(JOBS, []);

export const draftName = (jobId, clipId, revision) => `${DRAFTS}/${jobId}/${clipId}/${revision}`;

/** Keeps the draft of a clip. Returns whether the browser does. */
export function keepDraft(jobId, clipId, revision, draft) {
  const name = draftName(jobId, clipId, revision);
  const at = Date.now() / 1000;
  const old = draftNames().filter((other) => other !== name);
  old.sort((one, other) => (read(other, {}).at ?? 0) - (read(one, {}).at ?? 0));
  for (const other of old.slice(MOST_DRAFTS)) drop(other);
  return keep(name, { ...draft, at });
}

export const forgetDraft = (jobId, clipId, revision) => drop(draftName(jobId, clipId, revision));

/** The drafts of a clip, of the newest revision first: [{revision, at, …draft}]. */
export function keptDrafts(jobId, clipId) {
  const prefix = draftName(jobId, clipId, "");
  const names = draftNames().filter((name) => name.startsWith(prefix));
  const drafts = names.map((name) => ({ ...read(name, {}), revision: Number(name.slice(prefix.length)) }));
  return drafts.filter(({ revision }) => revision > 0).sort((one, other) => other.revision - one.revision);
}

function draftNames(jobId = "") {
  try {
    return Object.keys(localStorage).filter((name) => name.startsWith(`${DRAFTS}/${jobId}`));
  } catch {
    return [];
  }
}

function read(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** Returns whether the value is kept: private windows may block storage, and the page works without it. */
function keep(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

function drop(name) {
  try {
    localStorage.removeItem(name);
  } catch {
    // Nothing is stored.
  }
}
