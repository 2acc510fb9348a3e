// Changes of a clip of the edit document. Pure: each returns a new clip, or the same one if nothing changes.

import { rounded } from "./spoken.js";

export const SHORTEST = 0.1; // seconds of a segment

/** The clip with a field set; `path` is like ["segments", 0, "framing"]. */
export function withValue(clip, path, value) {
  if (!path.length) return value;
  const [name, ...rest] = path;
  const copy = Array.isArray(clip) ? [...clip] : { ...clip };
  copy[name] = withValue(copy[name] ?? {}, rest, value);
  return copy;
}

export const valueAt = (clip, path) => path.reduce((value, name) => value?.[name], clip);

/** Moves a segment's beginning, not over the clip's other segments nor its own end. */
export function withStart(clip, part, seconds) {
  const { start, end } = clip.segments[part];
  const floor = Math.max(0, ...clip.segments.map((other) => other.end).filter((other) => other <= start));
  return withValue(clip, ["segments", part, "start"], rounded(Math.min(Math.max(seconds, floor), end - SHORTEST)));
}

/** Moves a segment's end, not beyond `last`, the source's end. */
export function withEnd(clip, part, seconds, last = Infinity) {
  const { start, end } = clip.segments[part];
  const ceiling = Math.min(last, ...clip.segments.map((other) => other.start).filter((other) => other >= end));
  return withValue(clip, ["segments", part, "end"], rounded(Math.max(Math.min(seconds, ceiling), start + SHORTEST)));
}

/** The segment whose end is moved when the clip shall begin (or end) at this time: the one it is in, or the nearest. */
export function partNear(clip, seconds) {
  const away = ({ start, end }) => Math.max(start - seconds, seconds - end, 0);
  return clip.segments.reduce((best, segment, part) => (away(segment) < away(clip.segments[best]) ? part : best), 0);
}

/** Names words in `removed` or `hidden`, or takes them out. */
export function withWords(clip, list, indices, on) {
  const chosen = new Set(indices);
  const rest = clip.words[list].filter((index) => !chosen.has(index));
  const all = on ? [...rest, ...chosen].sort((one, other) => one - other) : rest;
  return withValue(clip, ["words", list], all);
}

/** Writes a word differently; an empty text, or the transcript's own, takes the correction back. */
export function withCorrection(clip, { index, text: said }, text) {
  const written = text.trim().replace(/\s+/g, " ");
  const others = clip.words.corrected.filter((word) => word.index !== index);
  const all = written && written !== said ? [...others, { index, text: written }] : others;
  return withValue(clip, ["words", "corrected"], all.sort((one, other) => one.index - other.index));
}

export const corrections = (clip) => new Map(clip.words.corrected.map(({ index, text }) => [index, text]));

/** Fills in what a document may leave out; `defaults` are [{path, initial}] of further fields. */
export function complete(clip, defaults = []) {
  return defaults.reduce((filled, { path, initial }) => {
    const isMissing = valueAt(filled, path.slice(0, -1)) && valueAt(filled, path) === undefined;
    return isMissing ? withValue(filled, path, initial) : filled;
  }, withOwnFields(clip));
}

function withOwnFields(clip) {
  const words = { corrected: [], hidden: [], removed: [], ...clip.words };
  const segments = clip.segments.map((segment) => ({ ...segment, framing: segment.framing ?? { kind: "auto" } }));
  return {
    title: "",
    hook: "",
    description: "",
    hashtags: [],
    ratio: null,
    ...clip,
    segments,
    words,
    captions: { shown: true, ...clip.captions },
  };
}

/** "#one two" as ["one", "two"]. */
export const readHashtags = (text) => text.split(/[\s,]+/u).map((tag) => tag.replace(/^#+/, "")).filter(Boolean);
