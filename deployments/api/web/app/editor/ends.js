// Where the clip begins and ends: moved by word and by frame, with buttons and arrow keys.

import { make, show, write } from "../dom.js";
import { withEnd, withStart } from "./changes.js";
import { choices } from "./choices.js";
import { formatClock } from "./clock.js";
import { middle } from "./spoken.js";

const STEPS = [
  { unit: "word", by: -1, text: "« word", spoken: "one word earlier" },
  { unit: "frame", by: -1, text: "‹ frame", spoken: "one frame earlier" },
  { unit: "frame", by: 1, text: "frame ›", spoken: "one frame later" },
  { unit: "word", by: 1, text: "word »", spoken: "one word later" },
];

export class Ends {
  #desk;
  #parts;
  #rows;

  /** `desk` has draft, spoken, screen, part and choosePart(). */
  constructor(place, desk) {
    this.#desk = desk;
    this.#parts = choices("part", "Part of the clip", (part) => desk.choosePart(Number(part)));
    this.#rows = [this.#row("start", "Start"), this.#row("end", "End")];
    place.append(this.#parts.element, ...this.#rows.map(({ element }) => element));
  }

  draw() {
    const { segments } = this.#desk.draft.clip;
    show(this.#parts.element, segments.length > 1);
    this.#parts.offer(segments.map((_, part) => ({ value: String(part), text: `Part ${part + 1}` })));
    this.#parts.choose(String(this.#desk.part));
    const part = segments.length > 1 ? ` of part ${this.#desk.part + 1}` : " of the clip";
    for (const row of this.#rows) {
      const seconds = segments[this.#desk.part][row.side];
      write(row.value, formatClock(seconds));
      row.value.setAttribute("aria-label", `${row.name}${part}`);
      row.value.setAttribute("aria-valuemax", Math.ceil(Math.min(this.#desk.spoken.duration, 1e9)));
      row.value.setAttribute("aria-valuenow", seconds);
      row.value.setAttribute("aria-valuetext", `${formatClock(seconds)}, ${this.#edgeWord(row.side)}`);
    }
  }

  /** Shows what is wrong with each end; `faults` maps "start" and "end" to sentences. */
  mark(faults) {
    for (const { side, wrong } of this.#rows) write(wrong, faults[side] ?? "");
  }

  /** Moves an end of the current part by words or frames. */
  step(side, unit, by) {
    if (unit === "frame") return this.#move(side, this.#segment[side] + by * this.#desk.screen.frame, `${side}-frame`);
    const word = this.#wordAfterStep(side, by);
    if (!word) return this.#desk.reach(by);
    const cut = side === "start" ? this.#desk.spoken.cutBefore(word.index) : this.#desk.spoken.cutAfter(word.index);
    return this.#move(side, cut, `${side}-word`);
  }

  /** Moves an end of the part to a word. */
  moveTo(side, word, key) {
    const cut = side === "start" ? this.#desk.spoken.cutBefore(word.index) : this.#desk.spoken.cutAfter(word.index);
    this.#move(side, cut, key);
  }

  get #segment() {
    return this.#desk.draft.clip.segments[this.#desk.part];
  }

  #move(side, seconds, key) {
    const { draft, part, spoken } = this.#desk;
    const end = Math.max(spoken.duration, spoken.all.at(-1)?.end ?? 0);
    const moved = side === "start" ? withStart(draft.clip, part, seconds) : withEnd(draft.clip, part, seconds, end);
    draft.change(moved, side === "start" ? "Move the start" : "Move the end", key);
    this.#desk.screen.showEdge(part, side);
  }

  /** The word that is first (or last) in the part after a step; undefined where no word is known. */
  #wordAfterStep(side, by) {
    const { all } = this.#desk.spoken;
    const { start, end } = this.#segment;
    if (side === "start") {
      const first = all.findIndex((word) => middle(word) >= start);
      const next = all[(first < 0 ? all.length : first) + by];
      return next && middle(next) < end ? next : undefined;
    }
    const last = all.findLastIndex((word) => middle(word) < end);
    const next = all[last + by];
    return next && middle(next) >= start ? next : undefined;
  }

  #edgeWord(side) {
    const inside = this.#desk.spoken.inside(this.#segment.start, this.#segment.end);
    const word = side === "start" ? inside[0] : inside.at(-1);
    return word ? `${side === "start" ? "before" : "after"} “${word.text}”` : "no word";
  }

  #row(side, name) {
    const value = make("span", { class: "value", role: "slider", tabindex: 0, "aria-valuemin": 0 });
    value.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
      if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.step(side, event.shiftKey ? "frame" : "word", by);
    });
    const buttons = STEPS.map(({ unit, by, text, spoken }) => {
      const button = make("button", { type: "button", class: "step", "aria-label": `${name} ${spoken}` }, text);
      button.addEventListener("click", () => this.step(side, unit, by));
      return button;
    });
    const wrong = make("p", { class: "wrong" });
    const head = make("p", { class: "end-name" }, name, " ", value);
    const element = make("div", { class: "end", role: "group", "aria-label": name }, head, make("div", { class: "steps" }, ...buttons), wrong);
    return { side, name, value, wrong, element };
  }
}
