// Captions of the preview: the words that are on screen together. Pure; follows tasks/core/captions/ass.py, whose
// line breaks depend on the font and may differ by a word.

import { endsSentence } from "./spoken.js";

const PAUSE = 0.6; // shortest silence in seconds that ends a group
const HOLD = 0.3; // seconds that a group stays after its last word
const CLAUSE = 4; // number of words from which on a comma ends a group
/** Most words and characters on screen, by preset; as in tasks/core/captions/presets.py. */
const LOOKS = {
  classic: { words: 5, columns: 26 },
  punch: { words: 3, columns: 18 },
  word: { words: 1, columns: 1 },
  box: { words: 7, columns: 40 },
  label: { words: 4, columns: 18 },
  reveal: { words: 7, columns: 30 },
};
const CLAUSE_END = /[,;:，、；：،؛]["'”’»›)\]}」』】》〉]*\s*$/u;

const POP = 0.12; // share by which the spoken word grows
const GAP = 0.4; // em by which it may grow in all

/** Size of the spoken word relative to the others, from its width and an em in pixels. */
export function popOf(width, em) {
  return 1 + Math.min(POP, (GAP * em) / Math.max(width, 1));
}

/** Groups of words: [{words, start, end}], on the clip's clock. */
export function captionGroups(words, preset = "classic") {
  const look = LOOKS[preset] ?? LOOKS.classic;
  const groups = [];
  for (const word of words.filter(({ hidden }) => !hidden)) {
    const group = groups.at(-1);
    if (group && !isFull(group, word, look)) group.push(word);
    else groups.push([word]);
  }
  return groups.map((group, at) => ({
    words: group,
    start: group[0].start,
    end: Math.min(group.at(-1).end + HOLD, groups[at + 1]?.[0].start ?? Infinity),
  }));
}

function isFull(group, next, { words, columns }) {
  const last = group.at(-1);
  if (next.start - last.end >= PAUSE || endsSentence(last)) return true;
  if (group.length >= words || (group.length >= CLAUSE && CLAUSE_END.test(last.text))) return true;
  return group.reduce((sum, { text }) => sum + text.length + 1, next.text.length) > columns;
}

/** What is on screen at a time: {words, spoken}, `spoken` being the place of the highlighted word; or null. */
export function captionAt(groups, clock) {
  const group = groups.find(({ start, end }) => clock >= start && clock < end);
  if (!group) return null;
  const later = group.words.findIndex(({ start }) => start > clock);
  return { words: group.words, spoken: (later < 0 ? group.words.length : later) - 1 };
}
