// Uploads a file by the tus protocol, and continues after a lost connection or a reload.

import { apiKey, Refused, Unreachable } from "./api.js";
import { forgetUpload, keepUpload, knownUpload } from "./memory.js";

const PIECE = 64 * 1024 * 1024; // bytes; proxies end requests that take too long
const PAUSES = [0, 1, 2, 5, 10, 20, 30, 30, 30, 30]; // seconds before each new try without progress
const TRY_AGAIN = new Set([0, 408, 409, 423, 429, 460, 500, 502, 503, 504]);
const HEADERS = { "tus-resumable": "1.0.0" };

export class Upload {
  #file;
  #report;
  #request = null;
  #stopped = false;
  #running = null;
  #url = "";

  /** `report` is called with the bytes that have arrived, and whether the connection is lost. */
  constructor(file, report) {
    this.#file = file;
    this.#report = report;
  }

  /** The finished upload's address. Can be called again, also after a failure. Throws Refused or Unreachable. */
  finish() {
    this.#running ??= this.#run().finally(() => (this.#running = null));
    return this.#running;
  }

  /** Stops, and removes from the server what has arrived. */
  remove() {
    this.#stopped = true;
    this.#request?.abort();
    forgetUpload(this.#name());
    if (this.#url) send("DELETE", this.#url).catch(() => {}); // the server removes it later by itself
  }

  async #run() {
    let failures = 0;
    let offset = -1;
    for (;;) {
      if (this.#stopped) throw new Unreachable();
      try {
        offset = offset < 0 ? await this.#begin() : offset;
        this.#report(offset, false);
        while (offset < this.#file.size) {
          offset = await this.#sendPiece(offset);
          failures = 0;
        }
        return this.#url;
      } catch (error) {
        if (this.#stopped || !(error instanceof Unreachable || TRY_AGAIN.has(error.status))) throw error;
        if (failures === PAUSES.length) throw error;
        this.#report(Math.max(offset, 0), true);
        await pause(PAUSES[failures]);
        failures += 1;
        offset = -1;
      }
    }
  }

  /** Finds this file's earlier upload, or begins a new one; returns how much of it has arrived. */
  async #begin() {
    this.#url ||= knownUpload(this.#name());
    if (this.#url) {
      const found = await send("HEAD", this.#url).catch(ifGone);
      if (found && Number(found.getResponseHeader("upload-length")) === this.#file.size) {
        return Number(found.getResponseHeader("upload-offset"));
      }
    }
    const metadata = `filename ${base64(this.#file.name)}`;
    const headers = { "upload-length": String(this.#file.size), "upload-metadata": metadata };
    const begun = await send("POST", "/api/uploads", { headers });
    this.#url = begun.getResponseHeader("location");
    keepUpload(this.#name(), this.#url);
    return 0;
  }

  async #sendPiece(offset) {
    const body = this.#file.slice(offset, offset + PIECE);
    const headers = { "content-type": "application/offset+octet-stream", "upload-offset": String(offset) };
    const sending = send("PATCH", this.#url, {
      headers,
      body,
      started: (request) => (this.#request = request),
      progress: (sent) => this.#report(offset + sent, false),
    });
    return Number((await sending).getResponseHeader("upload-offset"));
  }

  /** Recognises the file after a reload. */
  #name() {
    return `${this.#file.name}/${this.#file.size}/${this.#file.lastModified}`;
  }
}

/** Sends a request that may carry a file; fetch does not tell how much it has sent. */
function send(method, url, { headers = {}, body, started, progress } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    const key = apiKey();
    const all = { ...HEADERS, ...headers, ...(key && { "x-api-key": key }) };
    for (const [name, value] of Object.entries(all)) request.setRequestHeader(name, value);
    if (progress) request.upload.addEventListener("progress", (event) => progress(event.loaded));
    request.addEventListener("load", () => (request.status < 300 ? resolve(request) : reject(refusal(request))));
    for (const end of ["error", "abort", "timeout"]) request.addEventListener(end, () => reject(new Unreachable()));
    started?.(request);
    request.send(body);
  });
}

function refusal(request) {
  let detail = null;
  try {
    detail = JSON.parse(request.responseText).detail;
  } catch {
    // A proxy's own page, or the answer to HEAD.
  }
  return new Refused(request.status, typeof detail === "string" ? detail : `the server answered ${request.status}`);
}

function ifGone(error) {
  if (error.status === 404) return null;
  throw error;
}

/** Waits, but not longer than until the browser is online again. */
function pause(seconds) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    window.addEventListener("online", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text.slice(0, 255))));
