// The source's words, by index and by time. Pure: no DOM.
//
// A word is {index, text, start, end, speaker}, the speaker null if not known; times are seconds from the start of the source. A word belongs to the segment
// that contains its middle, as in tasks/core/edit/cuts.py.

const LEAD = 0.1; // seconds before the first word and after the last, as clips are first cut
const TAIL = 0.25;
const TIGHT = 0.1; // in shorter silences, the cut is in the middle
const SENTENCE_END = /[.!?…。！？｡؟۔।॥։።፧။។៕༎]["'”’»›)\]}」』】》〉]*\s*$/u;
const UNSPACED = /[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f]/;

export const middle = (word) => (word.start + word.end) / 2;

export const endsSentence = (word) => SENTENCE_END.test(word.text);

/** What stands between two words: a space, or nothing in scripts without spaces. */
export const between = (before, after) => (UNSPACED.test(before.slice(-2)) && UNSPACED.test(after[0] ?? "") ? "" : " ");

/** Words as text. */
export const joined = (texts) => texts.reduce((line, text) => (line ? line + between(line, text) + text : text), "");

export class Spoken {
  #byIndex = new Map();
  #ordered = [];
  #places = new Map();

  /** `duration` is the source's, in seconds. */
  constructor(duration = Infinity) {
    this.duration = duration;
  }

  /** Adds words of an answer; those already known are ignored. */
  add(first, words) {
    words.forEach(({ text, start, end, speaker = null }, at) => {
      if (!this.#byIndex.has(first + at)) this.#byIndex.set(first + at, { index: first + at, text: text.trim(), start, end, speaker });
    });
    this.#ordered = [...this.#byIndex.values()].sort((one, other) => middle(one) - middle(other) || one.index - other.index);
    this.#places = new Map(this.#ordered.map((word, place) => [word.index, place]));
  }

  /** All known words as they are said. */
  get all() {
    return this.#ordered;
  }

  get = (index) => this.#byIndex.get(index);

  /** The word's place among the known ones. */
  place = (index) => this.#places.get(index);

  inside(start, end) {
    return this.#ordered.filter((word) => middle(word) >= start && middle(word) < end);
  }

  /** The words from one index to another, in the order in which they are said. */
  run(from, to) {
    const [first, last] = [this.place(from), this.place(to)].sort((one, other) => one - other);
    return this.#ordered.slice(first, last + 1);
  }

  /** The sentence that contains a word. */
  sentence(index) {
    let first = this.place(index);
    let last = first;
    while (first > 0 && !endsSentence(this.#ordered[first - 1])) first -= 1;
    while (last < this.#ordered.length - 1 && !endsSentence(this.#ordered[last])) last += 1;
    return this.#ordered.slice(first, last + 1);
  }

  /** Where a clip begins that begins with this word. */
  cutBefore(index) {
    const word = this.get(index);
    const before = this.#ordered[this.place(index) - 1];
    const free = before ? before.end : 0;
    return rounded(word.start - free < TIGHT ? Math.max((free + word.start) / 2, 0) : word.start - LEAD);
  }

  /** Where a clip ends that ends with this word. */
  cutAfter(index) {
    const word = this.get(index);
    const after = this.#ordered[this.place(index) + 1];
    const free = after ? after.start : Math.max(this.duration, word.end);
    return rounded(free - word.end < TIGHT ? (free + word.end) / 2 : Math.min(word.end + TAIL, free));
  }
}

/** Seconds to the millisecond, as the document keeps them. */
export const rounded = (seconds) => Math.round(seconds * 1000) / 1000;
