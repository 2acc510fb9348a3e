// The words as text: a list box in which words are selected, with handles at the clip's ends.

import { make, write } from "../dom.js";
import { corrections } from "./changes.js";
import { formatPosition } from "../words.js";
import { between, endsSentence, middle } from "./spoken.js";

const NEW_PARAGRAPH = { pause: 1.2, words: 45 }; // seconds of silence; words after which a sentence's end begins one

export class WordList {
  #list;
  #on;
  #items = new Map(); // index -> element
  #shown = "";
  #anchor = null;
  #focus = null;
  #dragged = null;

  /** `on` has select(), key(event), and drop(side, part, word). */
  constructor(list, on) {
    this.#list = list;
    this.#on = on;
    list.addEventListener("keydown", (event) => this.#key(event));
    list.addEventListener("pointerdown", (event) => this.#down(event));
    list.addEventListener("pointermove", (event) => this.#move(event));
    list.addEventListener("pointerup", (event) => this.#up(event));
    list.addEventListener("pointercancel", () => (this.#dragged = null));
    list.addEventListener("focusin", ({ target }) => target.dataset.index && (this.#focus = Number(target.dataset.index)));
  }

  /** Draws the words of the clip and those around it. */
  draw(spoken, clip, language) {
    this.spoken = spoken;
    const key = `${spoken.all.length}/${spoken.all[0]?.index}`;
    if (key !== this.#shown) this.#build(language);
    this.#shown = key;
    const written = corrections(clip);
    const removed = new Set(clip.words.removed);
    const hidden = new Set(clip.words.hidden);
    for (const word of spoken.all) {
      const part = clip.segments.findIndex(({ start, end }) => middle(word) >= start && middle(word) < end);
      const states = {
        inside: part >= 0,
        removed: removed.has(word.index),
        hidden: hidden.has(word.index),
        corrected: written.has(word.index),
      };
      drawWord(this.#items.get(word.index), written.get(word.index) ?? word.text, word.text, states);
    }
    this.#drawHandles(clip);
    if (this.#focus === null) this.#setTabStop(spoken.all.find((word) => clip.segments[0].start <= middle(word))?.index);
  }

  /** The selected words, in the order in which they are said. */
  get selected() {
    return this.#anchor === null ? [] : this.spoken.run(this.#anchor, this.#focus);
  }

  /** Selects the words from one index to another. */
  select(anchor, focus = anchor, { keepFocus = false } = {}) {
    this.#anchor = anchor;
    this.#focus = focus;
    const chosen = new Set(this.selected.map(({ index }) => index));
    for (const [index, item] of this.#items) setState(item, "aria-selected", chosen.has(index));
    this.#setTabStop(focus);
    if (!keepFocus) this.#items.get(focus)?.focus({ preventScroll: false });
    this.#on.select(this.selected);
  }

  clear() {
    if (this.#anchor === null) return;
    this.#anchor = null;
    for (const item of this.#items.values()) setState(item, "aria-selected", false);
    this.#on.select([]);
  }

  focus() {
    this.#items.get(this.#focus)?.focus();
  }

  /** Marks the word that is being said, or none. */
  speak(index) {
    if (this.speaking === index) return;
    this.#items.get(this.speaking)?.classList.remove("speaking");
    this.#items.get(index)?.classList.add("speaking");
    this.speaking = index;
  }

  /** Marks words that have faults: a map from index to sentence. */
  mark(faults) {
    for (const [index, item] of this.#items) {
      item.classList.toggle("faulty", faults.has(index));
      if (faults.has(index)) item.title = faults.get(index);
      else item.removeAttribute("title");
    }
  }

  /** Scrolls so that a word is in the upper third of the list's scroller. */
  reveal(index, scroller) {
    const item = this.#items.get(index);
    if (!item) return;
    const top = item.getBoundingClientRect().top - scroller.getBoundingClientRect().top;
    scroller.scrollTop += top - scroller.clientHeight / 5;
  }

  #build(language) {
    const known = this.#items;
    this.#items = new Map();
    const paragraphs = [];
    let before = null;
    for (const word of this.spoken.all) {
      if (!before || beginsParagraph(before, word, paragraphs.at(-1).childElementCount)) {
        paragraphs.push(make("p", { role: "presentation", lang: language || null, dir: "auto" }, heading(before, word)));
      } else {
        const gap = between(before.text, word.text);
        if (gap) paragraphs.at(-1).append(gap);
      }
      const item = known.get(word.index) ?? make("span", { role: "option", class: "word", tabindex: -1, "data-index": word.index, "aria-selected": "false" });
      if (beginsTurn(before, word)) item.setAttribute("aria-description", speakerName(word));
      else item.removeAttribute("aria-description");
      this.#items.set(word.index, item);
      paragraphs.at(-1).append(item);
      before = word;
    }
    this.#list.replaceChildren(...paragraphs);
  }

  #setTabStop(index) {
    for (const item of this.#list.querySelectorAll('[tabindex="0"]')) item.tabIndex = -1;
    const item = this.#items.get(index) ?? this.#items.values().next().value;
    if (item) item.tabIndex = 0;
  }

  /** A handle before the first and after the last word of each segment; for pointers only. */
  #drawHandles(clip) {
    const wanted = clip.segments.flatMap(({ start, end }, part) => {
      const inside = this.spoken.inside(start, end);
      return inside.length ? [{ side: "start", part, word: inside[0] }, { side: "end", part, word: inside.at(-1) }] : [];
    });
    const key = wanted.map(({ side, part, word }) => `${side}${part}:${word.index}`).join();
    const there = this.#list.querySelectorAll(".handle");
    if (this.#list.dataset.handles === key && there.length === wanted.length) return;
    this.#list.dataset.handles = key;
    for (const handle of there) handle.remove();
    for (const { side, part, word } of wanted) {
      const handle = make("span", { class: "handle", "data-side": side, "data-part": part, "aria-hidden": "true" });
      const item = this.#items.get(word.index);
      if (side === "start") item.before(handle);
      else item.after(handle);
    }
  }

  #key(event) {
    if (this.#focus === null || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = this.#target(event.key);
    if (to === undefined) return void this.#act(event);
    event.preventDefault();
    this.select(event.shiftKey ? this.#anchor ?? to : to, to);
  }

  /** Keys that change words change the focused one if none is selected. */
  #act(event) {
    if (this.#anchor === null && event.key.length > 1 && !["Enter", "Delete", "Backspace"].includes(event.key)) return;
    if (this.#anchor === null) this.select(this.#focus);
    this.#on.key(event);
  }

  /** Where an arrow key leads: an index, or undefined for any other key. */
  #target(key) {
    const { all } = this.spoken;
    const at = this.spoken.place(this.#focus);
    const places = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 };
    if (key in places) return all[Math.min(Math.max(places[key], 0), all.length - 1)].index;
    if (key === "ArrowUp" || key === "ArrowDown") return this.#onOtherLine(at, key === "ArrowUp" ? -1 : 1);
    return undefined;
  }

  /** The word above or below: on the next line, the one that is nearest. */
  #onOtherLine(at, by) {
    const { all } = this.spoken;
    const box = (place) => this.#items.get(all[place].index).getBoundingClientRect();
    const here = box(at);
    let best = at;
    let line = null;
    for (let place = at + by; place >= 0 && place < all.length; place += by) {
      const there = box(place);
      if (Math.abs(there.top - here.top) < here.height / 2) continue;
      line ??= there.top;
      if (Math.abs(there.top - line) > here.height / 2) break;
      if (best === at || Math.abs(there.left - here.left) < Math.abs(box(best).left - here.left)) best = place;
    }
    return all[best].index;
  }

  #down(event) {
    const handle = event.target.closest(".handle");
    const index = indexAt(event);
    if (event.button !== 0) return;
    if (handle) {
      this.#dragged = { handle, side: handle.dataset.side, part: Number(handle.dataset.part) };
      this.#list.setPointerCapture(event.pointerId);
      event.preventDefault();
    } else if (index !== null) {
      if (event.pointerType === "mouse") event.preventDefault(); // no selection by the browser besides ours
      this.#dragged = { words: true, touch: event.pointerType !== "mouse", moved: false };
      if (event.pointerType === "mouse") this.select(event.shiftKey && this.#anchor !== null ? this.#anchor : index, index);
    }
  }

  #move(event) {
    if (!this.#dragged) return;
    const index = indexAt(event);
    if (index === null) return;
    if (this.#dragged.handle) this.#on.drop(this.#dragged.side, this.#dragged.part, this.spoken.get(index));
    else if (!this.#dragged.touch && index !== this.#focus) this.select(this.#anchor, index);
  }

  #up(event) {
    const index = indexAt(event);
    if (this.#dragged?.touch && index !== null) this.select(index);
    this.#dragged = null;
  }
}

const speakerName = ({ speaker }) => `Speaker ${speaker}`;

const beginsTurn = (before, word) => word.speaker !== null && word.speaker !== before?.speaker;

/** When a paragraph begins, and who speaks if that is another than before. */
function heading(before, word) {
  const name = beginsTurn(before, word) ? make("span", { class: "who" }, speakerName(word)) : "";
  return make("span", { class: "at", "aria-hidden": "true", lang: "en", dir: "ltr" }, formatPosition(word.start), name);
}

const beginsParagraph = (before, word, count) =>
  beginsTurn(before, word) ||
  word.index !== before.index + 1 || word.start - before.end >= NEW_PARAGRAPH.pause || (count > NEW_PARAGRAPH.words && endsSentence(before));

/** The index of the word under a pointer, or null. */
function indexAt({ clientX, clientY }) {
  const item = document.elementFromPoint(clientX, clientY)?.closest(".word");
  return item ? Number(item.dataset.index) : null;
}

const SPOKEN_STATES = [
  ["removed", "cut out"],
  ["hidden", "hidden in the captions"],
  ["corrected", "corrected"],
];

function drawWord(item, text, said, states) {
  write(item, text);
  const known = Object.keys(states).filter((name) => states[name]).join(" ");
  if (item.dataset.states === known) return void label(item, text, said, states);
  item.dataset.states = known;
  label(item, text, said, states);
}

function label(item, text, said, states) {
  const told = SPOKEN_STATES.filter(([name]) => states[name]).map(([name, words]) => (name === "corrected" ? `corrected from ${said}` : words));
  const name = told.length ? [text, ...told].join(", ") : null;
  if (item.getAttribute("aria-label") === name) return;
  if (name) item.setAttribute("aria-label", name);
  else item.removeAttribute("aria-label");
}

function setState(item, name, on) {
  const value = String(on);
  if (item.getAttribute(name) !== value) item.setAttribute(name, value);
}
