// The whole frame with the crops on it, which are moved by dragging or by arrow keys.

import { make, show } from "../dom.js";
import { cropWindow, movesAcross } from "./crop.js";

const STEP = 0.01; // of the picture; ten times as much with Shift
const WIDTH = 320; // pixels of the frame's copy

/** The crops of each kind of framing: the field that places one, its name, and its share of the clip's height. */
export const CROPS = {
  crop: [{ field: "at", name: "Middle of the crop", share: 1 }],
  split: [
    { field: "upper", name: "Middle of the upper part", label: "Upper", share: 0.5 },
    { field: "lower", name: "Middle of the lower part", label: "Lower", share: 0.5 },
  ],
};

export class Cropper {
  #frame = make("canvas", { width: WIDTH, height: 180, "aria-hidden": "true" });
  #moved;
  #windows = [];
  #shape = { picture: 16 / 9, ratio: 9 / 16 };
  #kind = "";

  /** `moved(places, key)` is called when the user moves a crop; `places` has the fields of the framing that change. */
  constructor(moved) {
    this.#moved = moved;
    this.element = make("div", { class: "cropper" }, this.#frame);
  }

  /** Draws the crops of a framing; `picture` and `ratio` are width to height of the source and the clip. */
  draw(framing, picture, ratio) {
    const crops = CROPS[framing.kind] ?? [];
    show(this.element, crops.length > 0);
    this.#shape = { picture, ratio };
    if (this.#kind !== framing.kind) {
      this.#kind = framing.kind;
      this.#windows = crops.map((crop) => this.#window(crop));
      this.element.replaceChildren(this.#frame, ...this.#windows.map(({ element }) => element));
    }
    for (const { element, field, share } of this.#windows) {
      const { [field]: at, zoom = 1, cross = 0.5 } = framing;
      Object.assign(element.dataset, { at, cross, zoom });
      const box = cropWindow(picture, ratio / share, at, zoom, cross);
      for (const [name, value] of Object.entries(box)) element.style.setProperty(`--${name}`, `${value * 100}%`);
      element.setAttribute("aria-valuenow", Math.round(at * 100));
      element.setAttribute("aria-valuetext", `${Math.round(at * 100)} percent`);
    }
  }

  /** Copies the video's frame. */
  drawFrame(video, picture) {
    if (this.element.hidden) return;
    this.#frame.height = Math.round(WIDTH / picture);
    this.#frame.getContext("2d").drawImage(video, 0, 0, this.#frame.width, this.#frame.height);
  }

  #window({ field, name, label, share }) {
    const about = { role: "slider", tabindex: 0, "aria-label": name, "aria-valuemin": 0, "aria-valuemax": 100 };
    const element = make("span", { class: "crop", ...about }, label);
    const places = () => ({ at: Number(element.dataset.at), cross: Number(element.dataset.cross) });
    const isAcross = () => movesAcross(this.#shape.picture, this.#shape.ratio / share);
    const isZoomed = () => Number(element.dataset.zoom) > 1;
    const move = ({ at, cross }, along, beside, key) => {
      this.#moved({ [field]: at + along, ...(isZoomed() && { cross: cross + beside }) }, key);
    };
    element.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      const step = by * STEP * (event.shiftKey ? 10 : 1);
      const isAlong = !isZoomed() || ["ArrowLeft", "ArrowRight"].includes(event.key) === isAcross();
      move(places(), isAlong ? step : 0, isAlong ? 0 : step, "crop-keys");
    });
    dragging(element, places, (from, by) => {
      const { width, height } = this.element.getBoundingClientRect();
      const [x, y] = [by.x / width, by.y / height];
      move(from, ...(isAcross() ? [x, y] : [y, x]), "crop-drag");
    });
    return { element, field, share };
  }
}

/** Calls `moved(start, {x, y})` while a pointer drags; `start` is what `begin` gave when it went down. */
export function dragging(element, begin, moved) {
  let drag = null;
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    drag = { x: event.clientX, y: event.clientY, from: begin() };
    element.setPointerCapture(event.pointerId);
    if (event.pointerType === "mouse") event.preventDefault();
  });
  element.addEventListener("pointermove", (event) => {
    if (drag) moved(drag.from, { x: event.clientX - drag.x, y: event.clientY - drag.y });
  });
  for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, () => (drag = null));
}
