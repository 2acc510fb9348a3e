// Follows a job by its event stream, or by polling every two seconds while the stream is down.

import { ask, jobPath, Refused } from "./api.js";
import { hasEnded } from "./words.js";

const POLL = 2_000; // milliseconds
const POLL_UNSEEN = 10_000; // in a hidden tab, which keeps no connection open
const SILENCE = 10_000; // a stream silent for this long may be dead; a request finds out
const REOPEN = [1_000, 2_000, 5_000, 10_000, 30_000];

/**
 * `onReport(job, whole)` gets every report: a whole job, or the few fields of an event.
 * `onLink(state, error)` gets "live", "polling", "lost", or "gone" if the job does not exist.
 */
export class Follower {
  #source = null;
  #polling = null;
  #reopen = null;
  #silence = null;
  #failures = 0;
  #on = false;

  constructor(jobId, onReport, onLink) {
    this.jobId = jobId;
    this.onReport = onReport;
    this.onLink = onLink;
    document.addEventListener("visibilitychange", () => this.#on && this.#begin());
    window.addEventListener("online", () => this.#on && this.#begin());
    window.addEventListener("pagehide", () => this.#quiet());
    window.addEventListener("pageshow", (event) => event.persisted && this.#on && this.#begin());
  }

  /** Starts following, also after the job was restarted. */
  start() {
    this.#on = true;
    this.#failures = 0;
    this.#begin();
    if (!document.hidden) this.once();
  }

  stop() {
    this.#on = false;
    this.#quiet();
  }

  /** Fetches the whole job once. Resolves to whether the server answered. */
  async once() {
    try {
      const job = await ask(jobPath(this.jobId));
      if (hasEnded(job.status)) this.stop();
      this.onReport(job, true);
      return true;
    } catch (error) {
      const gone = error instanceof Refused && error.status === 404;
      if (gone) this.stop();
      this.onLink(gone ? "gone" : "lost", error);
      return false;
    }
  }

  #begin() {
    this.#quiet();
    if (document.hidden) this.#startPolling();
    else this.#open();
  }

  #quiet() {
    this.#source?.close();
    this.#source = null;
    clearTimeout(this.#reopen);
    clearTimeout(this.#silence);
    this.#stopPolling();
  }

  #open() {
    this.#source?.close();
    const source = new EventSource(jobPath(this.jobId, "/events"));
    this.#source = source;
    source.addEventListener("open", () => this.#alive());
    source.addEventListener("progress", (event) => this.#event(event));
    source.addEventListener("end", (event) => {
      this.stop();
      this.#event(event);
      this.once();
    });
    source.addEventListener("error", () => this.#broken(source));
  }

  #event(event) {
    this.#failures = 0;
    if (this.#on) this.#alive();
    try {
      this.onReport(JSON.parse(event.data), false);
    } catch {
      this.once();
    }
  }

  /** The stream works: stops polling, and watches for silence. */
  #alive() {
    this.#stopPolling();
    this.onLink("live");
    clearTimeout(this.#silence);
    this.#silence = setTimeout(async () => {
      const answered = await this.once();
      if (!this.#on) return;
      if (answered) this.#alive();
      else this.#broken(null);
    }, SILENCE);
  }

  /** The browser reconnects and resumes a stream by itself, unless the server refused it. */
  #broken(source) {
    if (!this.#on) return;
    clearTimeout(this.#silence);
    this.#startPolling();
    if (source?.readyState === EventSource.CONNECTING) return;
    clearTimeout(this.#reopen);
    this.#reopen = setTimeout(() => this.#open(), REOPEN[Math.min(this.#failures++, REOPEN.length - 1)]);
  }

  #startPolling() {
    if (this.#polling) return;
    const mine = { timer: null };
    this.#polling = mine;
    const turn = async () => {
      const answered = await this.once();
      if (this.#polling !== mine) return;
      if (answered) this.onLink("polling");
      mine.timer = setTimeout(turn, document.hidden ? POLL_UNSEEN : POLL);
    };
    turn();
  }

  #stopPolling() {
    clearTimeout(this.#polling?.timer);
    this.#polling = null;
  }
}
