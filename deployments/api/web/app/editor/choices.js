// Choices, one of which is chosen: radio buttons that look like a switch, or pictures.

import { make, write } from "../dom.js";

/**
 * {element, offer(options), choose(value), mark(sentence)}; `chosen(value)` is called when the user chooses.
 * Options are [{value, text, shape}], or with `isPictured` [{value, text, picture}].
 */
export function choices(name, title, chosen, { isPictured = false } = {}) {
  const row = make("div", { class: isPictured ? "presets" : "choices" });
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

function choice(name, { value, text, shape, picture }) {
  const drawn = picture && make("img", { src: picture, alt: "", width: 270, height: 280, loading: "lazy" });
  const label = make("span", {}, drawn, shape && make("i", { class: "shape", "data-ratio": shape }), picture ? make("strong", {}, text) : text);
  return make("label", {}, make("input", { type: "radio", name, value }), label);
}
