// A row of choices, one of which is chosen: radio buttons that look like a switch.

import { make, write } from "../dom.js";

/** {element, offer(options), choose(value), mark(sentence)}; `chosen(value)` is called when the user chooses. */
export function choices(name, title, chosen) {
  const row = make("div", { class: "choices" });
  const legend = make("legend", {}, title);
  const wrong = make("p", { class: "wrong", id: `${name}-error` });
  const element = make("fieldset", { class: "field", "aria-describedby": wrong.id }, legend, row, wrong);
  row.addEventListener("change", ({ target }) => chosen(target.value));
  let offered = "";
  return {
    element,
    offer(options) {
      const key = JSON.stringify(options);
      if (key === offered) return;
      offered = key;
      row.replaceChildren(...options.map((option) => choice(name, option)));
    },
    choose(value) {
      for (const input of row.querySelectorAll("input")) input.checked = input.value === value;
    },
    title: (text) => write(legend, text),
    mark: (sentence) => write(wrong, sentence),
  };
}

function choice(name, { value, text, shape, look }) {
  const inside = look ? make("b", { class: "sample", "data-preset": look }, text) : text;
  const label = make("span", {}, shape && make("i", { class: "shape", "data-ratio": shape }), inside);
  return make("label", {}, make("input", { type: "radio", name, value }), label);
}
