// The clip as it is being edited: its history, and the copy that survives a reload.

import { draftName, forgetDraft, keepDraft, keptDrafts } from "../memory.js";
import { complete } from "./changes.js";
import { History } from "./history.js";
import { equal, merged } from "./merge.js";

export class Draft {
  #jobId;
  #number;
  #complete;
  #changed;
  #history;

  /**
   * `number` is the clip's place in the document, from 1; `defaults` are of fields that a document may leave out.
   * `changed(label)` is called after every change.
   */
  constructor(jobId, number, defaults, changed) {
    this.#jobId = jobId;
    this.#complete = (clip) => complete(clip, defaults);
    this.#number = number;
    this.#changed = changed;
  }

  /** Begins with a published document and this browser's draft of it. Returns whether there was one. */
  open(document) {
    this.#adopt(document);
    const kept = this.#kept().find(({ revision }) => revision === this.revision);
    for (const { revision, clip } of this.#kept()) {
      if (equal(clip, this.published)) forgetDraft(this.#jobId, this.id, revision); // it has been rendered
    }
    this.#history = new History(this.published);
    if (kept) this.#history.push(kept.clip, "Restore your changes");
    return Boolean(kept);
  }

  /** Continues on the revision that has been rendered from `sent`. Later changes stay, and all can be undone. */
  rebase(document, sent) {
    const { clip } = this;
    this.#forget(this.revision, [sent, clip]);
    this.#adopt(document);
    this.#history.replace(equal(clip, sent) ? this.published : merged(sent, clip, this.published));
    this.#keep();
  }

  get clip() {
    return this.#history.state;
  }

  /** The name under which the browser keeps the draft. */
  get storedAs() {
    return draftName(this.#jobId, this.id, this.revision);
  }

  /** Whether a newer document can be shown without hiding changes made here. */
  isSafeToReplace(document) {
    const newer = document.clips[this.at];
    return !this.isChanged || (newer && equal(this.#complete(newer), this.clip));
  }

  get at() {
    return this.#number - 1;
  }

  get history() {
    return this.#history;
  }

  get isChanged() {
    return !equal(this.clip, this.published);
  }

  /** The whole document with the edited clip. */
  get whole() {
    const clips = this.document.clips.map((clip, at) => (at === this.at ? this.clip : clip));
    return { ...this.document, clips };
  }

  /** Makes a change that can be undone. `label` says what is done, as in "Cut out 3 words". */
  change(clip, label, key) {
    if (equal(clip, this.clip)) return;
    this.#history.push(clip, label, key);
    this.#keep();
    this.#changed(label);
  }

  undo() {
    return this.#moved(this.#history.undo(), "Undone");
  }

  redo() {
    return this.#moved(this.#history.redo(), "Redone");
  }

  /** The newest draft of another revision that differs from the clip: {revision, at, base, clip}, or undefined. */
  get older() {
    return this.#kept().find(({ revision, clip }) => revision !== this.revision && !equal(clip, this.published));
  }

  /** Puts an older draft's changes onto the clip. */
  use({ base, clip, revision }) {
    const newer = merged(base, clip, this.clip);
    forgetDraft(this.#jobId, this.id, revision);
    this.change(newer, "Use earlier changes");
  }

  drop({ revision }) {
    forgetDraft(this.#jobId, this.id, revision);
  }

  /** Stores the draft again, because another tab may have removed it. */
  keep() {
    this.#keep();
  }

  #adopt(document) {
    this.document = document;
    this.revision = document.revision;
    this.published = this.#complete(document.clips[this.at]);
    this.id = this.published.id;
  }

  #kept() {
    const readable = ({ base, clip }) => [base, clip].every((one) => one?.id === this.id && Array.isArray(one.segments));
    return keptDrafts(this.#jobId, this.id)
      .filter(readable)
      .map((kept) => ({ ...kept, base: this.#complete(kept.base), clip: this.#complete(kept.clip) }));
  }

  #keep() {
    if (this.isChanged) this.isKept = keepDraft(this.#jobId, this.id, this.revision, { base: this.published, clip: this.clip });
    else forgetDraft(this.#jobId, this.id, this.revision);
  }

  /** Forgets the draft of a revision, unless another tab has made it something else. */
  #forget(revision, clips) {
    const kept = keptDrafts(this.#jobId, this.id).find((one) => one.revision === revision);
    if (kept && clips.some((clip) => equal(kept.clip, clip))) forgetDraft(this.#jobId, this.id, revision);
  }

  #moved(label, how) {
    if (label === null) return;
    this.#keep();
    this.#changed(`${how}: ${label}`);
  }
}
