// How the clip looks: ratio, captions, framing, and whatever else the document's schema offers.

import { make, show, write } from "../dom.js";
import { valueAt, withValue } from "./changes.js";
import { choices } from "./choices.js";
import { Cropper } from "./cropper.js";
import { framings, named, namesOf, otherFields, rangeOf } from "./schema.js";

const POSITIONS = { lower: "Below", middle: "Middle", upper: "Above" };
/** Plainer words than the schema's for fields whose names and hints say little to people. */
const NAMES = {
  hook_overlay: { name: "Show the hook", hint: "On a card over the first three seconds." },
  tighten: { name: "Cut pauses and filler words", hint: "Pauses over 0.6 s, words such as “um”, and slips such as “the, the”. The preview still plays them." },
};
/** Where crops are at first. */
const PLACES = { crop: { at: 0.5 }, split: { upper: 0.25, lower: 0.75 } };
const FRAMINGS = {
  auto: { text: "Follow", hint: "The camera follows whoever speaks." },
  fit: { text: "Whole", hint: "The whole picture, over a blurred copy of itself." },
  crop: { text: "Fixed", hint: "The picture stays where you put it. Drag it here or in the preview, or use the arrow keys." },
  people: { text: "People", hint: "Two people, one above the other, wherever they are. Without two, the camera follows." },
  screen: { text: "Screen", hint: "The whole picture on top, the face enlarged below, in clips of 9:16: for slides and screen recordings. Without a face, the whole picture." },
  split: { text: "Two", hint: "Two people, one above the other. Drag each frame to its place, or use the arrow keys." },
};

export class Look {
  #desk;
  #ratio;
  #framing;
  #captions = make("input", { type: "checkbox", id: "captions", "aria-describedby": "captions-error" });
  #preset;
  #position;
  #captionsWrong = make("p", { class: "wrong", id: "captions-error" });
  #hint = make("p", { class: "hint" });
  #cropper;
  #zoom = make("input", { type: "range", id: "zoom", step: 0.1 });
  #zoomField = make("div", { class: "field" }, make("label", { for: "zoom" }, "Zoom"), this.#zoom);
  #others;
  #kinds;

  /** `desk` has draft, part, screen, schema and usualRatio. */
  constructor(place, desk) {
    this.#desk = desk;
    this.#kinds = framings(desk.schema, Object.keys(FRAMINGS));
    this.#ratio = choices("ratio", "Shape", (value) => this.#set(["ratio"], value, "Change the shape"));
    this.#ratio.offer(namesOf(desk.schema, "EditClip", "ratio").map((ratio) => ({ value: ratio, text: ratio, shape: ratio })));
    this.#framing = choices("framing", "Framing", (kind) => this.#frame(kind));
    this.#framing.offer(this.#kinds.map(({ kind }) => ({ value: kind, text: FRAMINGS[kind]?.text ?? named(kind) })));
    this.#cropper = new Cropper(desk.moveCrop);
    const { least, most } = rangeOf(desk.schema, "Crop", "zoom");
    Object.assign(this.#zoom, { min: least, max: most });
    this.#zoom.addEventListener("input", () => this.#zoomTo(Number(this.#zoom.value)));
    this.#captions.addEventListener("change", () => this.#set(["captions", "shown"], this.#captions.checked, this.#captions.checked ? "Show captions" : "Take captions off"));
    const others = otherFields(desk.schema).map((field) => ({ ...field, ...NAMES[field.path.join(".")] }));
    this.#others = others.map((field) => otherControl(field, (value) => this.#set(field.path, value, `Change ${field.name.toLowerCase()}`)));
    const captions = make("div", { class: "field" }, make("label", { class: "check" }, this.#captions, "Captions in the picture"), this.#captionsWrong);
    place.append(this.#ratio.element, this.#framing.element, this.#hint, this.#cropper.element, this.#zoomField, captions, ...this.#captionChoices(), ...this.#others.map(({ element }) => element));
  }

  #captionChoices() {
    const { schema } = this.#desk;
    this.#preset = choices("preset", "Caption style", (value) => this.#set(["captions", "preset"], value, "Change the caption style"), { isPictured: true });
    this.#preset.offer(namesOf(schema, "EditCaptions", "preset").map((name) => ({ value: name, text: named(name), picture: `/static/presets/${encodeURIComponent(name)}.webp` })));
    this.#position = choices("position", "Captions at", (value) => this.#set(["captions", "position"], value || null, "Move the captions"));
    const places = namesOf(schema, "EditCaptions", "position").filter(Boolean);
    this.#position.offer([null, ...places].map((place) => ({ value: place ?? "", text: place ? (POSITIONS[place] ?? named(place)) : "Default" })));
    return [this.#preset.element, this.#position.element];
  }

  draw() {
    const { draft, part, usualRatio } = this.#desk;
    const { clip } = draft;
    this.#ratio.choose(clip.ratio ?? usualRatio);
    const { framing } = clip.segments[part];
    this.#framing.title(clip.segments.length > 1 ? `Framing of part ${part + 1}` : "Framing");
    this.#framing.choose(framing.kind);
    write(this.#hint, FRAMINGS[framing.kind]?.hint ?? this.#kinds.find(({ kind }) => kind === framing.kind)?.hint ?? "");
    this.#cropper.draw(framing, this.#desk.screen.picture, this.#desk.screen.ratio);
    show(this.#zoomField, framing.kind === "crop" && Number(this.#zoom.max) > Number(this.#zoom.min));
    this.#zoom.value = framing.zoom ?? 1;
    this.#zoom.setAttribute("aria-valuetext", `${framing.zoom ?? 1} times`);
    this.#desk.screen.drawFrame();
    const { shown, preset, position } = clip.captions;
    this.#captions.checked = shown;
    this.#preset.choose(preset);
    this.#position.choose(position ?? "");
    show(this.#preset.element, shown && preset !== undefined);
    show(this.#position.element, shown && position !== undefined);
    for (const { path, draw } of this.#others) draw(valueAt(clip, path));
  }

  /** Shows sentences at their controls; `faults` maps a field to its sentences. */
  mark(faults) {
    const of = (field) => (faults.get(field) ?? []).join(" ");
    this.#ratio.mark(of("ratio"));
    this.#framing.mark(of(`segments[${this.#desk.part}].framing`));
    write(this.#captionsWrong, [of("captions"), of("captions.shown")].filter(Boolean).join(" "));
    this.#preset.mark(of("captions.preset"));
    this.#position.mark(of("captions.position"));
    for (const { path, mark } of this.#others) mark(of(path.join(".")));
  }

  /** Copies the video's frame into the picture on which crops are moved. */
  drawFrame(video) {
    this.#cropper.drawFrame(video, this.#desk.screen.picture);
  }

  #set(path, value, label) {
    const { draft } = this.#desk;
    draft.change(withValue(draft.clip, path, value), label);
  }

  #zoomTo(zoom) {
    const { draft, part } = this.#desk;
    const { zoom: before, ...framing } = draft.clip.segments[part].framing;
    const path = ["segments", part, "framing"];
    draft.change(withValue(draft.clip, path, zoom > 1 ? { ...framing, zoom } : framing), "Zoom", "zoom");
  }

  #frame(kind) {
    const framing = { kind, ...PLACES[kind] };
    this.#set(["segments", this.#desk.part, "framing"], framing, "Change the framing");
  }
}

/** A control for a field of the schema: {path, element, draw(value), mark(sentence)}. */
function otherControl({ path, kind, name, hint, options, initial, least, most, isOptional }, changed) {
  const id = `field-${path.join("-")}`;
  const about = { id, "aria-describedby": `${id}-hint ${id}-error` };
  const input = {
    flag: () => make("input", { type: "checkbox", ...about }),
    choice: () => make("select", about, ...options.map((value) => make("option", { value: value ?? "" }, value === null ? "Default" : named(value)))),
    number: () => make("input", { type: "number", min: least, max: most, step: "any", ...about }),
    text: () => make("input", { type: "text", maxlength: most, autocomplete: "off", ...about }),
  }[kind]();
  const read = {
    flag: () => input.checked,
    choice: () => options.find((value) => String(value ?? "") === input.value) ?? null,
    number: () => (input.value === "" && isOptional ? null : Number(input.value)),
    text: () => input.value,
  }[kind];
  input.addEventListener("change", () => changed(read()));
  const wrong = make("p", { class: "wrong", id: `${id}-error` });
  const label = kind === "flag" ? make("label", { class: "check" }, input, name) : make("label", { for: id }, name);
  const element = make("div", { class: "field" }, label, kind !== "flag" && input, hint && make("p", { class: "hint", id: `${id}-hint` }, hint), wrong);
  return {
    path,
    element,
    draw(value = initial) {
      if (kind === "flag") input.checked = Boolean(value);
      else if (document.activeElement !== input || kind === "choice") input.value = value ?? "";
    },
    mark: (sentence) => write(wrong, sentence),
  };
}
