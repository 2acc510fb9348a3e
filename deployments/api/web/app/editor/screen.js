// The preview: the source's own picture with the clip's cuts, crop and captions, before anything is rendered.

import { make, write } from "../dom.js";
import { fitted, isWhole, viewAt } from "./camera.js";
import { captionAt, popOf } from "./captions.js";
import { formatClock } from "./clock.js";
import { cropWindow, movesAcross, objectPosition } from "./crop.js";
import { CROPS, dragging } from "./cropper.js";
import { clipTime, lengthOf, sourceTime } from "./playing.js";
import { between } from "./spoken.js";

const DEFAULT_FRAME = 1 / 30; // seconds, until the video has told its own
const DEFAULT_PICTURE = 16 / 9;
const EARLY = 0.01; // seconds; a part that ends this soon has ended
const TALL = 1.5; // height in widths from which on captions may be higher, as in tasks/core/captions/presets.py
const CARD = 3; // seconds that the hook's card is shown, as in tasks/core/captions/card.py

export class Screen {
  #parts;
  #on;
  #url;
  #plan = [];
  #at = 0; // the part of the plan that is played
  #clip = null;
  #groups = [];
  #views = []; // what the camera showed in the rendered clip
  #ratio = 9 / 16;
  #frameSeen = Infinity;
  #lastFrame = null;
  #wantsToPlay = false;
  #retried = false;

  /**
   * `parts` are the page's elements by id. `on` has time(seconds of the source), frame(video) and
   * crop(places, key).
   */
  constructor(parts, url, on) {
    this.#parts = parts;
    this.#on = on;
    this.#url = url;
    const { source, play, clock, stage } = parts;
    source.addEventListener("loadedmetadata", () => this.#loaded());
    source.addEventListener("error", () => this.#failed());
    for (const name of ["seeked", "loadeddata"]) source.addEventListener(name, () => this.drawFrame());
    source.addEventListener("pause", () => this.#playing());
    source.addEventListener("play", () => this.#playing());
    play.addEventListener("click", () => this.toggle());
    clock.addEventListener("input", () => this.seek(Number(clock.value)));
    dragging(stage, () => this.framing, (from, by) => this.#drag(from, by));
    source.src = url;
    this.#watchFrames();
  }

  /** Seconds of a frame of the source. */
  get frame() {
    return this.#frameSeen < 0.2 ? this.#frameSeen : DEFAULT_FRAME;
  }

  /** Width to height of the source. */
  get picture() {
    const { videoWidth: width, videoHeight: height } = this.#parts.source;
    return width && height ? width / height : DEFAULT_PICTURE;
  }

  /** Seconds on the clip's clock. */
  get clock() {
    const part = this.#plan[this.#at];
    const { currentTime } = this.#parts.source;
    if (part && currentTime >= part.start - 0.05 && currentTime <= part.end + 0.05) {
      return Math.min(Math.max(part.at + currentTime - part.start, 0), lengthOf(this.#plan));
    }
    return clipTime(this.#plan, currentTime);
  }

  /** Draws a clip: the plan of what is played, groups of captions, and width to height. */
  draw(clip, plan, groups, ratio, views) {
    const isFirst = !this.#clip;
    const wasAt = this.#parts.source.currentTime;
    const changed = JSON.stringify(plan) !== JSON.stringify(this.#plan);
    [this.#clip, this.#plan, this.#groups, this.#ratio, this.#views] = [clip, plan, groups, ratio, views];
    this.#parts.stage.style.setProperty("--ratio", ratio);
    this.#parts.clock.max = lengthOf(plan).toFixed(2);
    if (isFirst) this.seek(0);
    else if (changed) this.seek(clipTime(plan, wasAt));
    else this.#show();
  }

  seek(clock) {
    if (!this.#plan.length) return;
    const { index, seconds } = sourceTime(this.#plan, clock);
    this.#at = index;
    this.#parts.source.currentTime = seconds;
    this.#show(Math.min(clock, lengthOf(this.#plan)));
  }

  /** Shows the first or the last frame of a segment. */
  showEdge(part, side) {
    const parts = this.#plan.filter((one) => one.part === part);
    const edge = side === "start" ? parts[0] : parts.at(-1);
    if (!edge || this.isPlaying) return;
    this.seek(side === "start" ? edge.at : edge.at + edge.end - edge.start - this.frame / 2);
  }

  /** Plays the clip from a time of the source; outside the clip, that part of the source alone. */
  async playFrom(seconds) {
    const inside = this.#plan.findIndex(({ start, end }) => seconds >= start - 0.05 && seconds < end);
    if (inside >= 0) this.#at = inside;
    this.#parts.source.currentTime = seconds;
    await this.#play(inside < 0);
  }

  toggle() {
    if (this.#wantsToPlay) return this.pause();
    if (this.clock >= lengthOf(this.#plan) - 0.05) this.seek(0);
    return this.#play(false);
  }

  pause() {
    this.#wantsToPlay = false;
    this.#parts.source.pause();
  }

  async #play(freely) {
    this.#wantsToPlay = true;
    this.freely = freely;
    try {
      await this.#parts.source.play();
      requestAnimationFrame(() => this.#tick());
    } catch {
      this.#wantsToPlay = false; // paused before it began, or unplayable, which #failed tells
    }
    this.#playing();
  }

  #playing() {
    const playing = !this.#parts.source.paused;
    if (!playing && !this.#parts.source.seeking) this.#wantsToPlay = false;
    write(this.#parts.play, playing ? "Pause" : "Play");
  }

  /** Skips what is cut, and stops at the end. */
  #tick() {
    if (!this.#wantsToPlay) return;
    const { source } = this.#parts;
    const part = this.#plan[this.#at];
    if (!this.freely && part && !source.seeking && source.currentTime >= part.end - EARLY) this.#next(part);
    this.#show();
    if (this.#wantsToPlay) requestAnimationFrame(() => this.#tick());
  }

  #next(part) {
    const next = this.#plan[this.#at + 1];
    if (!next) {
      this.pause();
      this.#parts.source.currentTime = Math.max(part.end - EARLY, part.start);
      return;
    }
    this.#at += 1;
    if (Math.abs(next.start - part.end) > EARLY) this.#parts.source.currentTime = next.start;
  }

  #show(clock = this.clock) {
    const { clock: slider, time, caption, card, source } = this.#parts;
    const length = lengthOf(this.#plan);
    slider.value = clock;
    slider.setAttribute("aria-valuetext", `${formatClock(clock)} of ${formatClock(length)}`);
    write(time, `${formatClock(clock)} / ${formatClock(length)}`);
    this.#frameClip();
    const { shown, preset = "classic", position } = this.#clip?.captions ?? {};
    caption.dataset.preset = preset;
    caption.dataset.position = position ?? "";
    caption.classList.toggle("tall", this.#ratio * TALL <= 1);
    drawCaption(caption, shown ? captionAt(this.#groups, clock) : null);
    write(card, this.#clip?.hook_overlay && clock < CARD ? this.#clip.hook : "");
    this.#on.time(source.currentTime);
  }

  get isPlaying() {
    return this.#wantsToPlay;
  }

  /** Width to height of the clip. */
  get ratio() {
    return this.#ratio;
  }

  /** The clip's segment that is shown. */
  get part() {
    return this.#plan[this.#at]?.part ?? 0;
  }

  get framing() {
    return this.#clip?.segments[this.part]?.framing ?? { kind: "auto" };
  }

  #frameClip() {
    const { stage, source } = this.#parts;
    const { layout, windows } = this.#shown;
    stage.dataset.framing = layout;
    stage.dataset.parts = ["people", "split"].includes(this.framing.kind) ? 2 : 1;
    const { x, y } = objectPosition(this.picture, this.#ratio, this.framing.at ?? 0.5);
    source.style.objectPosition = `${x}% ${y}%`;
    if (windows.length && source.readyState >= 2) this.#drawWindows(windows, layout === "fitted");
  }

  /** How the picture is shown: a layout of the page, and the parts of the picture that are drawn one above the other. */
  get #shown() {
    const { framing } = this;
    if (framing.kind === "crop" && framing.zoom > 1) return { layout: "zoomed", windows: [this.#cropOf(framing)] };
    if (framing.kind === "split") {
      const windows = CROPS.split.map(({ field, share }) => cropWindow(this.picture, this.#ratio / share, framing[field]));
      return { layout: "split", windows };
    }
    const view = viewAt(this.#views, framing.kind, this.#ratio, this.#parts.source.currentTime);
    if (!view) return { layout: framing.kind === "screen" ? "fit" : framing.kind, windows: [] };
    const { layout, windows } = view;
    return { layout: !isWhole(layout) ? "followed" : windows.length ? "fitted" : layout, windows };
  }

  #loaded() {
    write(this.#parts.unplayable, "");
    this.#retried = false;
    this.seek(this.#plan.length ? this.clock : 0);
  }

  /** Links expire: the first failure of a video that has played asks for a new one. */
  async #failed() {
    const { source, unplayable } = this.#parts;
    if (source.currentTime > 0 && !this.#retried) {
      this.#retried = true;
      source.src = this.#url;
      return;
    }
    const answer = await fetch(this.#url, { redirect: "manual" }).catch(() => null);
    const gone = answer?.status === 404;
    const why = gone ? "The source video is no longer stored." : answer ? "This browser cannot play the source video." : "The source video cannot be reached.";
    write(unplayable, `${why} You can edit the words all the same; render the clip to see it.`);
  }

  /** The shortest time between two frames that were drawn; also keeps the blurred copy and the crop's picture. */
  #watchFrames() {
    const { source } = this.#parts;
    if (!source.requestVideoFrameCallback) return;
    const seen = (_, { mediaTime }) => {
      const apart = this.#lastFrame === null ? 0 : mediaTime - this.#lastFrame;
      if (apart > 0.005) this.#frameSeen = Math.min(this.#frameSeen, apart);
      this.#lastFrame = source.paused || source.seeking ? null : mediaTime; // a seek is no frame's length
      this.drawFrame();
      source.requestVideoFrameCallback(seen);
    };
    source.requestVideoFrameCallback(seen);
  }

  /** Draws everything that is a copy of the video's frame. */
  drawFrame() {
    const { source, blurred } = this.#parts;
    if (source.readyState < 2) return;
    const { layout, windows } = this.#shown;
    this.#parts.stage.dataset.framing = layout;
    if (isWhole(layout) || layout === "fitted") cover(blurred, source, windows[0]);
    if (windows.length) this.#drawWindows(windows, layout === "fitted");
    this.#on.frame(source);
  }

  /** Draws parts of the picture, one above the other; or one that is fitted in. */
  #drawWindows(windows, isFitted) {
    const { source, halves } = this.#parts;
    const { videoWidth, videoHeight } = source;
    halves.height = Math.round(halves.width / this.#ratio);
    const parts = windows.map(({ x, y, width, height }) => [x * videoWidth, y * videoHeight, width * videoWidth, height * videoHeight]);
    const tall = parts.reduce((sum, [, , width, height]) => sum + height / width, 0);
    let top = 0;
    for (const part of parts) {
      const down = (halves.height * part[3]) / part[2] / tall;
      halves.getContext("2d").drawImage(source, ...part, ...(isFitted ? fitted(part[2] / part[3], halves) : [0, top, halves.width, down]));
      top += down;
    }
  }

  /** Dragging the preview's picture moves the crop the other way; `from` is the framing when the drag began. */
  #drag(from, by) {
    if (from.kind !== "crop") return;
    const { clientWidth, clientHeight } = this.#parts.stage;
    const { width, height } = this.#cropOf(from);
    const shares = [(by.x / clientWidth) * width, (by.y / clientHeight) * height];
    const [along, beside] = movesAcross(this.picture, this.#ratio) ? shares : shares.reverse();
    this.#on.crop({ at: from.at - along, ...(from.zoom > 1 && { cross: (from.cross ?? 0.5) - beside }) }, "crop-drag");
  }

  #cropOf({ at, zoom, cross }) {
    return cropWindow(this.picture, this.#ratio, at, zoom, cross);
  }

}

/** Draws a part of the picture, or all of it, so that it covers the canvas. */
function cover(canvas, video, { x, y, width, height } = { x: 0, y: 0, width: 1, height: 1 }) {
  const [across, down] = [width * video.videoWidth, height * video.videoHeight];
  const scale = Math.min(across / canvas.width, down / canvas.height);
  const size = [canvas.width * scale, canvas.height * scale];
  const from = [x * video.videoWidth + (across - size[0]) / 2, y * video.videoHeight + (down - size[1]) / 2];
  canvas.getContext("2d").drawImage(video, ...from, ...size, 0, 0, canvas.width, canvas.height);
}

function drawCaption(place, caption) {
  const key = caption ? `${caption.words.map(({ index, text }) => `${index}${text}`).join()}/${caption.spoken}` : "";
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  const words = caption?.words ?? [];
  const nodes = words.flatMap(({ text }, at) => {
    const state = at === caption.spoken ? "spoken" : at > caption.spoken ? "later" : null;
    const word = make("span", { class: state }, text);
    return at ? [between(words[at - 1].text, text), word] : [word];
  });
  place.replaceChildren(...nodes);
  const spoken = place.querySelector(".spoken");
  spoken?.style.setProperty("--pop", popOf(spoken.offsetWidth, parseFloat(getComputedStyle(place).fontSize)).toFixed(3));
}
