// Sends the document to be rendered, and follows the rendering until it ends.

import { ask, jobPath, Refused, Unreachable } from "../api.js";
import { asSentence } from "../words.js";

const POLL = 1_000; // milliseconds

/** A rendering that ended badly, or was refused: a sentence for the user. */
export class NotRendered extends Error {
  /** `newer` is the revision of somebody else, `faults` are [{path, reason}], `needsKey` asks for an API key. */
  constructor(message, { newer = null, faults = [], needsKey = false } = {}) {
    super(message);
    Object.assign(this, { newer, faults, needsKey });
  }
}

/** Asks for a document to be rendered; resolves to its revision. Throws NotRendered. */
export async function sendDocument(jobId, document) {
  try {
    const headers = { "if-match": `"${document.revision}"` };
    const { revision } = await ask(jobPath(jobId, "/edit"), { method: "PUT", body: document, headers });
    return revision;
  } catch (error) {
    throw refusal(error);
  }
}

/** Follows a rendering; resolves when the revision is published. `progress(percent, isLost)` is called meanwhile. */
export async function followRendering(jobId, revision, progress) {
  for (;;) {
    await new Promise((go) => setTimeout(go, POLL));
    let job;
    try {
      job = await ask(jobPath(jobId));
    } catch (error) {
      if (error instanceof Unreachable || error.status >= 500) progress(null, true);
      else throw refusal(error);
      continue;
    }
    if (job.revision >= revision) return;
    const { recut } = job;
    if (recut?.revision === revision && recut.state === "FAILED") {
      throw new NotRendered(notRendered(recut));
    }
    if (recut?.revision !== revision) throw new NotRendered("The rendering has ended without a result. Your changes are kept; try again.");
    progress(recut.progress, false);
  }
}

/** Why a rendering has failed. */
export const notRendered = ({ error }) => `The clip could not be rendered. ${asSentence(error ?? "No reason was given")} Your changes are kept.`;

/** Each refusal as one sentence with a next step. */
function refusal(error) {
  const kept = "Your changes are kept";
  if (!(error instanceof Refused)) return new NotRendered(`${asSentence(error.message)} ${kept}; try again in a moment.`);
  const { status, content } = error;
  if (status === 401) return new NotRendered("This server requires a key.", { needsKey: true });
  if (status === 404) return new NotRendered(`This job no longer exists. ${kept} in this browser, but they cannot be rendered.`);
  if (status === 409) return new NotRendered(`This job is being rendered already. ${kept}; try again when it is done.`);
  if (status === 412) return new NotRendered("Someone else has changed this job.", { newer: content?.revision ?? 0 });
  if (status === 422) {
    const faults = Array.isArray(content?.errors) ? content.errors : [];
    return new NotRendered(faults.length ? "" : `${asSentence(error.detail)} ${kept}.`, { faults });
  }
  if (status === 429) return new NotRendered(`Too many requests. ${kept}; try again in a minute.`);
  return new NotRendered(`The server could not take the changes: ${error.detail}. ${kept}; try again in a moment.`);
}
