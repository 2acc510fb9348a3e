// Names and times in words. Times are seconds since the epoch; durations are seconds.

/** The stages in order, with the percentages of the job at which each begins and ends; from the server's table. */
export { STAGES } from "./stages.js";

export const STATES = { QUEUED: "Waiting", RUNNING: "Working", SUCCEEDED: "Ready", FAILED: "Failed", CANCELLED: "Cancelled" };

export const hasEnded = (status) => ["SUCCEEDED", "FAILED", "CANCELLED"].includes(status);

/** The status to display: a cancelled job has not failed. In an event, only the error tells them apart. */
export const displayStatus = ({ status, cancelled, error }) =>
  status === "FAILED" && (cancelled || error === "Cancelled.") ? "CANCELLED" : status;

const NUMBERS = ["No", "One", "Two", "Three", "Four", "Five"];

/** "Three clips". */
export const clips = (count) => `${NUMBERS[count] ?? count} ${count === 1 ? "clip" : "clips"}`;

/** "8 s", "3 min 12 s", "1 h 4 min". */
export function formatDuration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** "12 MB", "1.4 GB". */
export const formatSize = (bytes) => (bytes < 1e9 ? `${Math.ceil(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`);

/** "22:14" today, "23 Nov, 22:14" on another day, in the reader's locale. */
export function formatTime(epoch, withSeconds = false) {
  const date = new Date(epoch * 1000);
  const time = { hour: "2-digit", minute: "2-digit", ...(withSeconds && { second: "2-digit" }) };
  const today = date.toDateString() === new Date().toDateString();
  return date.toLocaleString([], today ? time : { day: "numeric", month: "short", ...time });
}

/** "1:02" or "1:02:03": a position in the video. */
export function formatPosition(seconds) {
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  const [hours, minutes, rest] = [parts[0], ...parts.slice(1).map((part) => String(part).padStart(2, "0"))];
  return hours ? `${hours}:${minutes}:${rest}` : `${parts[1]}:${rest}`;
}

/** The seconds in a position such as 90, 12:30 or 1:02:03; null if the text is empty, NaN if it is anything else. */
export function readPosition(text) {
  const trimmed = text.trim();
  if (!trimmed) return null;
  if (!/^\d{1,6}(:[0-5]?\d){0,2}$/.test(trimmed)) return NaN;
  return trimmed.split(":").reduce((seconds, part) => seconds * 60 + Number(part), 0);
}

/** A message as a sentence. */
export function asSentence(text) {
  const trimmed = String(text).trim();
  return trimmed && trimmed[0].toUpperCase() + trimmed.slice(1) + (/[\p{Sentence_Terminal}…]$/u.test(trimmed) ? "" : ".");
}

/** A link without its scheme: "example.com/talks/one.mp4". */
export const subject = (url) => String(url).replace(/^https?:\/\/(www\.)?/, "").replace(/\/$/, "");
