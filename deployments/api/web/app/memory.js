// What this browser stores: the last settings and its recent jobs. Without storage, nothing.

const CHOICE = "kangklip.choice";
const JOBS = "kangklip.jobs";
const SENT_FILES = "kangklip.uploads";
const MOST = 12;

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

export const forgetJob = (id) => keep(JOBS, recentJobs().filter((job) => job.id !== id));

export const forgetJobs = () => keep(JOBS, []);

function read(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // Private windows may block storage; the page works without it.
  }
}
