// The finished clips: players, downloads and texts to copy.

import { jobPath } from "./api.js";
import { make, write } from "./dom.js";
import { strongest } from "./signals.js";
import { formatPosition } from "./words.js";

const COPIED = 2_000; // milliseconds
const FIRST_PICTURE = "#t=0.001"; // phones show no first frame until a position is requested

/** A card for each clip. `revision` is that of the edit document, if there is one; `say` announces a text. */
export const cards = (jobId, clips, revision, say) => clips.map((clip, index) => card(jobId, clip, index + 1, revision, say));

function card(jobId, clip, number, revision, say) {
  const address = jobPath(jobId, `/clips/${encodeURIComponent(clip.file)}`);
  const title = make("h3", { id: `clip-${number}` }, clip.title || `Clip ${number}`);
  const words = [clip.description, tags(clip.hashtags)].filter(Boolean).join("\n\n");
  const from = Number.isFinite(clip.start) && Number.isFinite(clip.end) ? `${formatPosition(clip.start)} to ${formatPosition(clip.end)}` : "";
  const seconds = Number.isFinite(clip.duration) ? `${clip.duration.toFixed(1)} s` : "";
  return make(
    "li",
    {},
    make(
      "article",
      { "aria-labelledby": title.id },
      player(revision ? `${address}?revision=${revision}` : address, number, clip),
      make(
        "div",
        { class: "about" },
        make("p", { class: "facts" }, [`Clip ${number}`, seconds, from].filter(Boolean).join(" · ")),
        title,
        clip.hook && make("p", { class: "hook" }, clip.hook),
        clip.description && make("p", { class: "description" }, clip.description),
        tags(clip.hashtags) && make("p", { class: "tags" }, tags(clip.hashtags)),
        make(
          "div",
          { class: "actions" },
          make("a", { class: "button primary", href: `${address}/download?name=title`, download: clip.file, "aria-label": `Download clip ${number}` }, "Download"),
          revision && make("a", { class: "button", href: `/jobs/${encodeURIComponent(jobId)}/edit?clip=${number}`, "aria-label": `Edit clip ${number}` }, "Edit"),
          clip.title && copier("Copy title", `Copy title of clip ${number}`, clip.title, say),
          words && copier("Copy description", `Copy description of clip ${number}`, words, say),
        ),
        files(clip, number),
        clip.text && folded("Transcript", make("p", {}, clip.text)),
        (clip.why || clip.scores) && folded("Why this clip", ...reasons(clip)),
      ),
    ),
  );
}

/** Links to the clip's poster and subtitle files, for players and sites that show them themselves. */
function files(clip, number) {
  const link = (path, label, spoken) => make("a", { href: `${path}/download?name=title`, download: "", "aria-label": spoken }, label);
  const poster = clip.poster ? [["Poster: ", link(clip.poster, "JPG", `Download the poster of clip ${number}`)]] : [];
  const forms = Object.entries(clip.subtitles ?? {}).map(([form, path], at) => [
    at ? "" : "Subtitles: ",
    link(path, form.toUpperCase(), `Download the subtitles of clip ${number} as ${form.toUpperCase()}`),
  ]);
  const links = [...poster, ...forms];
  return links.length > 0 && make("p", { class: "files" }, ...links.flatMap((item, at) => [at ? " · " : "", ...item]));
}

/** A player with its poster, or else its first frame, and its length preloaded. Only one plays at a time. */
function player(address, number, { title, poster }) {
  const video = make("video", {
    src: poster ? address : `${address}${FIRST_PICTURE}`,
    poster,
    controls: true,
    playsinline: true,
    preload: "metadata",
    "aria-label": `Clip ${number}${title ? `: ${title}` : ""}`,
  });
  video.addEventListener("play", () => {
    for (const other of document.querySelectorAll("video")) if (other !== video) other.pause();
  });
  const wrong = make("p", { class: "wrong" });
  video.addEventListener("error", () => write(wrong, "This clip cannot be played. Reload the page, or download the clip."));
  return make("div", { class: "player" }, video, wrong);
}

function copier(label, spoken, text, say) {
  const button = make("button", { type: "button", class: "plain", "aria-label": spoken }, label);
  button.addEventListener("click", async () => {
    const done = await copied(text);
    write(button, done ? "Copied" : "Copy failed");
    say(done ? "Copied." : "The browser blocked copying.");
    setTimeout(() => write(button, label), COPIED);
  });
  return button;
}

/** Browsers allow the clipboard API only on secure pages; elsewhere, copies a selection. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { class: "unseen", "aria-hidden": "true", tabindex: "-1" });
    const focused = document.activeElement;
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return done;
  }
}

const folded = (title, ...inside) => make("details", {}, make("summary", {}, title), ...inside);

const tags = (hashtags) =>
  Array.isArray(hashtags) ? hashtags.map((tag) => `#${String(tag).replace(/^#/, "")}`).join(" ") : "";

function reasons(clip) {
  const values = strongest(clip.scores, clip.counted);
  return [
    clip.why && make("p", {}, clip.why),
    values.length > 0 && make("dl", { class: "scores" }, ...values.map(score)),
    values.length > 0 && make("p", { class: "hint" }, "What counted for this clip and against it, compared with the rest of this video."),
  ];
}

/** A bar that extends right if better than average, else left, capped at three standard deviations. */
function score({ title, value }) {
  const bar = make("span", { class: "deviation", "data-side": value < 0 ? "less" : "more", "aria-hidden": "true" });
  bar.style.setProperty("--length", `${Math.min(Math.abs(value) / 3, 1) * 50}%`);
  const number = `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;
  return make("div", {}, make("dt", {}, title), make("dd", {}, bar, number));
}

/** Notes on a job: dropped clips, and warnings. */
export function notes(manifest) {
  const dropped = Array.isArray(manifest?.dropped) ? manifest.dropped : [];
  const warnings = Array.isArray(manifest?.warnings) ? manifest.warnings : [];
  return [...dropped.map(({ title, reason }) => `Left out: “${title}”. ${reason}`), ...warnings.map(String)];
}
