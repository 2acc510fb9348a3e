// Requests to the server. Every failure is one of the two classes below.

/** The server refused the request; `detail` is its reason, and `content` the rest of its answer, or null. */
export class Refused extends Error {
  constructor(status, detail, content = null) {
    super(detail);
    this.status = status;
    this.detail = detail;
    this.content = content;
  }
}

/** The server did not answer. */
export class Unreachable extends Error {
  constructor() {
    super("The server cannot be reached.");
  }
}

const KEY = "kangklip.api-key";
const PRINTABLE = /^[\x20-\x7e]*$/;
const TIMEOUT = 30_000; // milliseconds
const MIN_SKEW = 2; // seconds; smaller differences come from the network and the Date header's rounding
let skew = 0;

/** The time by the server's clock, which the job's times use, in seconds since the epoch. */
export const now = () => Date.now() / 1000 + skew;

export function apiKey() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

export function keepApiKey(key) {
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // Without storage the user enters the key again.
  }
}

/** The server's JSON answer. Throws Refused or Unreachable. */
export async function ask(path, { method = "GET", body, headers = {} } = {}) {
  const key = method === "GET" ? "" : apiKey();
  if (!PRINTABLE.test(key)) throw new Refused(401, "api key required"); // no header can carry it
  const options = {
    method,
    headers: { ...headers, ...(body && { "content-type": "application/json" }), ...(key && { "x-api-key": key }) },
    body: body && JSON.stringify(body),
    cache: "no-store",
    signal: AbortSignal.timeout(TIMEOUT),
  };
  let response;
  let answer;
  try {
    response = await fetch(path, options);
    answer = await response.text();
  } catch {
    throw new Unreachable();
  }
  readClock(response.headers.get("date"));
  const content = parsed(answer);
  if (!response.ok) throw new Refused(response.status, detailOf(content, response.status), content);
  if (content === null) throw new Refused(response.status, "the server's answer could not be read");
  return content;
}

export const jobPath = (jobId, rest = "") => `/api/jobs/${encodeURIComponent(jobId)}${rest}`;

function readClock(date) {
  const off = Date.parse(date) / 1000 - Date.now() / 1000;
  if (Number.isFinite(off)) skew = Math.abs(off) > MIN_SKEW ? off : 0;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function detailOf(content, status) {
  return typeof content?.detail === "string" ? content.detail : `the server answered ${status}`;
}
