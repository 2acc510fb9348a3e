// The texts that go with the clip: title, hook, description and hashtags.

import { make, write } from "../dom.js";
import { readHashtags, withValue } from "./changes.js";

const FIELDS = [
  { name: "title", title: "Title", most: 200 },
  { name: "hook", title: "Hook", most: 300, hint: "One line that makes people stay." },
  { name: "description", title: "Description", most: 2000, long: true },
  { name: "hashtags", title: "Hashtags", hint: "Separated by spaces." },
];

export class Texts {
  #desk;
  #fields;

  constructor(place, desk) {
    this.#desk = desk;
    this.#fields = FIELDS.map((field) => this.#field(field));
    place.append(...this.#fields.map(({ element }) => element));
  }

  draw() {
    const { clip } = this.#desk.draft;
    for (const { name, input } of this.#fields) {
      const value = name === "hashtags" ? clip.hashtags.map((tag) => `#${tag.replace(/^#/, "")}`).join(" ") : clip[name];
      const isSame = name === "hashtags" ? String(readHashtags(input.value)) === String(readHashtags(value)) : input.value === value;
      if (!isSame) input.value = value;
    }
  }

  /** Shows sentences at their fields; `faults` maps a field to its sentences. */
  mark(faults) {
    for (const { name, input, wrong } of this.#fields) {
      const sentences = faults.get(name) ?? [];
      write(wrong, sentences.map((reason) => `This ${reason}.`).join(" "));
      if (sentences.length) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    }
  }

  #field({ name, title, most, long, hint }) {
    const id = `text-${name}`;
    const about = { id, maxlength: most, autocomplete: "off", "aria-describedby": `${id}-error${hint ? ` ${id}-hint` : ""}` };
    const input = long ? make("textarea", { rows: 3, ...about }) : make("input", { type: "text", ...about });
    const wrong = make("p", { class: "wrong", id: `${id}-error` });
    input.addEventListener("input", () => {
      const { draft } = this.#desk;
      const value = name === "hashtags" ? readHashtags(input.value) : input.value;
      draft.change(withValue(draft.clip, [name], value), `Change the ${title.toLowerCase()}`, name);
    });
    const element = make("div", { class: "field" }, make("label", { for: id }, title), input, hint && make("p", { class: "hint", id: `${id}-hint` }, hint), wrong);
    return { name, input, wrong, element };
  }
}
