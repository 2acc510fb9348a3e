// What can be done with the selected words: a toolbar, and the field for a correction.

import { make, show, write } from "../dom.js";
import { corrections, withCorrection, withWords } from "./changes.js";
import { joined, middle } from "./spoken.js";

const MOST_SHOWN = 40; // characters of the selection that the toolbar repeats

export class ChosenWords {
  #desk;
  #words = [];
  #text = make("p", { class: "facts" });
  #buttons;
  #field = make("input", { type: "text", maxlength: 100, autocomplete: "off", "aria-describedby": "correction-error" });
  #wrong = make("p", { class: "wrong", id: "correction-error", role: "alert" });
  #row;
  #form;
  #place;

  /** `desk` has draft, list, ends, part, play(word), and choosePart(). */
  constructor(place, desk) {
    this.#desk = desk;
    const button = (name, text, act) => {
      const made = make("button", { type: "button", class: "plain", "data-name": name }, text);
      made.addEventListener("click", act);
      return made;
    };
    this.#buttons = {
      removed: button("removed", "Cut out", () => this.toggle("removed")),
      hidden: button("hidden", "Hide in captions", () => this.toggle("hidden")),
      correct: button("correct", "Correct", () => this.correct()),
      sentence: button("sentence", "Whole sentence", () => this.sentence()),
      more: button("more", "One word more", () => this.more()),
      start: button("start", "Start here", () => this.end("start")),
      end: button("end", "End here", () => this.end("end")),
      play: button("play", "Play here", () => desk.play(this.#words[0])),
    };
    this.#form = this.#correctionForm();
    const close = make("button", { type: "button", class: "close", "aria-label": "Select nothing" }, "✕");
    close.addEventListener("click", () => {
      desk.list.clear();
      desk.list.focus();
    });
    this.#row = make("div", { class: "actions" }, ...Object.values(this.#buttons));
    place.append(this.#text, close, this.#row, this.#form);
    this.#place = place;
    this.choose([]);
  }

  /** Shows what can be done with these words. */
  choose(words) {
    this.#words = words;
    this.#close();
    this.draw();
  }

  draw() {
    const words = this.#words;
    show(this.#place, words.length > 0);
    if (!words.length) return;
    const text = joined(words.map(({ index, text: said }) => this.#written.get(index) ?? said));
    const short = text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN - 1)}…` : text;
    write(this.#text, `“${short}” · ${count(words)}`);
    const inside = this.#inside.length > 0;
    for (const name of ["removed", "hidden", "correct"]) show(this.#buttons[name], inside);
    write(this.#buttons.removed, this.#allIn("removed") ? "Put back" : "Cut out");
    write(this.#buttons.hidden, this.#allIn("hidden") ? "Show in captions" : "Hide in captions");
  }

  /** The same by keyboard. Returns whether the key means something. */
  key({ key }) {
    const acts = {
      Delete: () => this.toggle("removed"),
      Backspace: () => this.toggle("removed"),
      h: () => this.toggle("hidden"),
      Enter: () => this.correct(),
      s: () => this.sentence(),
      "[": () => this.end("start"),
      "]": () => this.end("end"),
      Escape: () => this.#desk.list.clear(),
      " ": () => this.#desk.play(this.#words[0]),
    };
    const act = acts[key.length === 1 ? key.toLowerCase() : key];
    act?.();
    return Boolean(act);
  }

  /** Cuts the words out or hides them; if all of them are, takes that back. */
  toggle(list) {
    const words = this.#inside;
    if (!words.length) return;
    const on = !this.#allIn(list);
    const { draft } = this.#desk;
    const labels = { removed: ["Put back", "Cut out"], hidden: ["Show in the captions", "Hide in the captions"] };
    draft.change(withWords(draft.clip, list, words.map(({ index }) => index), on), `${labels[list][Number(on)]}: ${count(words)}`);
  }

  /** Opens the field with what the captions write. */
  correct() {
    if (!this.#inside.length) return;
    this.#field.value = this.#inside.map(({ index, text }) => this.#written.get(index) ?? text).join(" ");
    write(this.#wrong, "");
    this.#open(true);
    this.#field.focus();
    this.#field.select();
  }

  sentence() {
    const { list } = this.#desk;
    const words = list.spoken.sentence(this.#words[0].index);
    list.select(words[0].index, words.at(-1).index, { keepFocus: true });
  }

  more() {
    const { list } = this.#desk;
    const next = list.spoken.all[list.spoken.place(this.#words.at(-1).index) + 1];
    if (next) list.select(this.#words[0].index, next.index, { keepFocus: true });
  }

  /** Moves the start before the first selected word, or the end after the last. */
  end(side) {
    const word = side === "start" ? this.#words[0] : this.#words.at(-1);
    this.#desk.choosePart(this.#desk.nearestPart(middle(word)));
    this.#desk.ends.moveTo(side, word);
  }

  get #inside() {
    const { segments } = this.#desk.draft.clip;
    return this.#words.filter((word) => segments.some(({ start, end }) => middle(word) >= start && middle(word) < end));
  }

  get #written() {
    return corrections(this.#desk.draft.clip);
  }

  #allIn(list) {
    const named = new Set(this.#desk.draft.clip.words[list]);
    return this.#inside.every(({ index }) => named.has(index));
  }

  #correctionForm() {
    const back = make("button", { type: "button", class: "plain" }, "Use what was heard");
    back.addEventListener("click", () => this.#write(this.#inside.map(({ text }) => text)));
    const cancel = make("button", { type: "button", class: "plain" }, "Cancel");
    cancel.addEventListener("click", () => this.#close(true));
    const label = make("label", {}, "Written in captions and subtitles as", this.#field);
    const actions = make("div", { class: "actions" }, make("button", { type: "submit", class: "primary" }, "Correct"), back, cancel);
    const form = make("form", { class: "field correction", novalidate: true, hidden: true }, label, this.#wrong, actions);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#close(true);
    });
    return form;
  }

  /** One selected word may become several; several must stay as many, because each has its own time. */
  #submit() {
    const words = this.#inside;
    const text = this.#field.value.trim();
    const texts = words.length === 1 ? [text] : text.split(/\s+/u);
    if (!text) return void write(this.#wrong, "Write something, or cut the word out instead.");
    if (texts.length !== words.length) {
      return void write(this.#wrong, `Keep ${count(words)}, or correct one word at a time.`);
    }
    return this.#write(texts);
  }

  #write(texts) {
    const { draft } = this.#desk;
    const corrected = this.#inside.reduce((clip, word, at) => withCorrection(clip, word, texts[at]), draft.clip);
    this.#close(true);
    draft.change(corrected, "Correct");
  }

  /** Shows the field in place of the buttons, or the buttons. */
  #open(isOpen) {
    show(this.#form, isOpen);
    show(this.#row, !isOpen);
  }

  #close(andFocus = false) {
    if (this.#form.hidden) return;
    this.#open(false);
    if (andFocus) this.#desk.list.focus();
  }
}

const count = (words) => (words.length === 1 ? "1 word" : `${words.length} words`);
