// What is played of the source: a clip's segments without its removed words. Pure; mirrors tasks/core/edit/cuts.py.

import { corrections } from "./changes.js";
import { middle } from "./spoken.js";

const REACH = 0.1; // most seconds that a cut reaches into the silence beside a removed word
const SHORTEST_PART = 0.1; // seconds
const INSTANT = 1e-6;

/** The parts to play in order: [{start, end, at, part}], `at` being seconds on the clip's clock. */
export function playingPlan(clip, spoken) {
  const removed = new Set(clip.words.removed);
  let at = 0;
  return clip.segments.flatMap((segment, part) =>
    partsOf(segment, removed, spoken).map(([start, end]) => {
      const placed = { start, end, at, part };
      at += end - start;
      return placed;
    }),
  );
}

function partsOf({ start, end }, removed, spoken) {
  const inside = spoken.inside(start, end);
  if (!inside.some(({ index }) => removed.has(index))) return [[start, end]];
  const parts = [];
  let begins = start;
  for (let place = 0; place < inside.length; ) {
    if (!removed.has(inside[place].index)) {
      place += 1;
      continue;
    }
    let last = place;
    while (last + 1 < inside.length && removed.has(inside[last + 1].index)) last += 1;
    parts.push([begins, place === 0 ? start : cutBefore(inside[place - 1], inside[place])]);
    begins = last === inside.length - 1 ? end : cutAfter(inside[last], inside[last + 1]);
    place = last + 1;
  }
  parts.push([begins, end]);
  return parts.filter(([from, to]) => to - from >= SHORTEST_PART);
}

function cutBefore(kept, gone) {
  return Math.max(Math.min(Math.max(silence(kept, gone), gone.start - REACH), middle(gone)), middle(kept) + INSTANT);
}

function cutAfter(gone, kept) {
  return Math.min(Math.max(Math.min(silence(gone, kept), gone.end + REACH), middle(gone) + INSTANT), middle(kept));
}

const silence = (before, after) => (before.end + after.start) / 2;

/** Seconds that the clip lasts. */
export const lengthOf = (plan) => plan.reduce((sum, { start, end }) => sum + end - start, 0);

/** The place in the source at a time of the clip: {index, seconds}; past the end, the end. */
export function sourceTime(plan, clock) {
  const index = plan.findIndex(({ start, end, at }) => clock < at + end - start);
  if (index < 0) return { index: plan.length - 1, seconds: plan.at(-1)?.end ?? 0 };
  return { index, seconds: plan[index].start + Math.max(clock - plan[index].at, 0) };
}

/** The time of the clip at a time of the source; where it is not played, that of the next part in the source. */
export function clipTime(plan, seconds) {
  const inside = plan.find(({ start, end }) => seconds >= start && seconds < end);
  if (inside) return inside.at + seconds - inside.start;
  const later = plan.filter(({ start }) => start >= seconds).sort((one, other) => one.start - other.start)[0];
  return later ? later.at : lengthOf(plan);
}

/** The words that are heard, in playing order, on the clip's clock: [{index, text, start, end, hidden}]. */
export function heard(clip, plan, spoken) {
  const written = corrections(clip);
  const hidden = new Set(clip.words.hidden);
  return plan.flatMap(({ start, end, at }) =>
    spoken.inside(start, end).map((word) => ({
      index: word.index,
      text: written.get(word.index) ?? word.text,
      start: Math.max(word.start, start) - start + at,
      end: Math.min(word.end, end) - start + at,
      hidden: hidden.has(word.index),
    })),
  );
}
