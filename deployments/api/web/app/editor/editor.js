// The editor of one clip: loads it, and joins the words, the preview and the controls.

import { apiKey, ask, jobPath, keepApiKey, Refused } from "../api.js";
import { byId, show, write } from "../dom.js";
import { asSentence, formatTime } from "../words.js";
import { partNear, withValue } from "./changes.js";
import { coverage } from "./camera.js";
import { captionGroups } from "./captions.js";
import { ChosenWords } from "./chosen_words.js";
import { nearestAt, nearestCross, ratioOf } from "./crop.js";
import { CROPS } from "./cropper.js";
import { Draft } from "./draft.js";
import { Ends } from "./ends.js";
import { placed } from "./faults.js";
import { Look } from "./look.js";
import { heard, lengthOf, playingPlan } from "./playing.js";
import { followRendering, notRendered, sendDocument } from "./rendering.js";
import { defaults } from "./schema.js";
import { Screen } from "./screen.js";
import { Spoken } from "./spoken.js";
import { Texts } from "./texts.js";
import { WordList } from "./word_list.js";

const AROUND = 120; // seconds of words shown before and after the clip
const CHECK_AFTER = 400; // milliseconds without a change

const jobId = decodeURIComponent(location.pathname.split("/").at(-2));
const number = Math.max(1, Number.parseInt(new URLSearchParams(location.search).get("clip") ?? "1", 10) || 1);
const say = (text) => write(byId("announcement"), text);
const elements = (...ids) => Object.fromEntries(ids.map((id) => [id, byId(id)]));

/** Everything the parts of the page share. */
const desk = {
  draft: null,
  spoken: null,
  part: 0,
  schema: null,
  usualRatio: "9:16",
  screen: null,
  list: null,
  ends: null,
  play: (word) => desk.screen.playFrom(desk.spoken.cutBefore(word.index)),
  nearestPart: (seconds) => partNear(desk.draft.clip, seconds),
  choosePart(part) {
    desk.part = part;
    redraw();
  },
  moveCrop: (places, key) => moveCrop(desk.part, places, key),
  reach: (by) => (by < 0 ? loadMore("earlier") : loadMore("later")),
};
/** What the preview shows of a part whose camera has been rendered for all of it, for some of it, or not. */
const FOLLOWED_HINTS = {
  all: "",
  some: "The preview shows the middle where nothing has been rendered yet. The rendered clip follows whoever speaks.",
  none: "The preview shows the middle. The rendered clip follows whoever speaks.",
};
const PEOPLE_HINTS = {
  all: "",
  some: "The preview shows the middle where nothing has been rendered yet. The rendered clip shows two people.",
  none: "The preview shows the middle. The rendered clip shows two people.",
};
const SCREEN_HINTS = {
  all: "",
  some: "The preview shows the whole picture where nothing has been rendered yet. The rendered clip shows the face below it, if it is 9:16.",
  none: "The preview shows the whole picture. The rendered clip shows the face below it, if it is 9:16.",
};
let chosenWords;
let look;
let texts;
let language = "";
let views = []; // what the camera showed in the rendered clip
let loaded = []; // ranges of seconds whose words are known
let faults = { own: new Map(), others: [] };
let isRendering = false;
let checks = 0;
let checkTimer = null;

async function begin() {
  byId("back").href = `/jobs/${encodeURIComponent(jobId)}`;
  try {
    const [job, document, schema] = await Promise.all([
      ask(jobPath(jobId)),
      ask(jobPath(jobId, "/edit")),
      ask("/api/schema/edit").catch(() => null),
    ]);
    if (!document.clips[number - 1]) throw new Refused(404, `this job has no clip ${number}`);
    desk.schema = schema;
    desk.draft = new Draft(jobId, number, defaults(schema), changed);
    const isRestored = desk.draft.open(document);
    await Promise.all([loadWords(), loadViews()]);
    build();
    opened(isRestored);
    const { recut } = job;
    if (["QUEUED", "RUNNING"].includes(recut?.state)) followAnothers(recut.revision);
    if (recut?.state === "FAILED" && isRestored) write(byId("problem"), notRendered(recut));
  } catch (error) {
    write(byId("title"), "This clip cannot be edited");
    write(byId("problem"), problemText(error));
    byId("main").removeAttribute("aria-busy");
    if (!(error instanceof Refused)) setTimeout(begin, 3_000);
  }
}

function problemText(error) {
  if (!(error instanceof Refused)) return `${asSentence(error.message)} Retrying.`;
  if (error.status === 409) return "The job has not finished yet. Come back when its clips are ready.";
  if (error.status === 404 && error.detail === "job not found") return "The job does not exist. The link may be wrong, or it may have been deleted.";
  return asSentence(error.detail);
}

/** Fetches what the camera showed; without that, the preview shows the middle. */
async function loadViews() {
  const { clips } = await ask(jobPath(jobId, "/camera")).catch(() => ({ clips: [] }));
  views = clips.find(({ id }) => id === desk.draft.clip.id)?.views ?? [];
}

/** Fetches the words of every segment and those around it. */
async function loadWords() {
  desk.spoken = new Spoken();
  const ranges = desk.draft.clip.segments.map(({ start, end }) => [Math.max(start - AROUND, 0), end + AROUND]);
  await Promise.all(merged(ranges).map(fetchWords));
}

/** Ranges without overlaps, in order. */
function merged(ranges) {
  const all = [];
  for (const [start, end] of [...ranges].sort((one, other) => one[0] - other[0])) {
    if (all.length && start <= all.at(-1)[1]) all.at(-1)[1] = Math.max(all.at(-1)[1], end);
    else all.push([start, end]);
  }
  return all;
}

async function fetchWords([start, end]) {
  const answer = await ask(jobPath(jobId, `/words?start=${start}&end=${end}`));
  desk.spoken.duration = answer.duration;
  language = answer.language ?? "";
  desk.spoken.add(answer.first, answer.words);
  loaded = merged([...loaded, [start, end]]);
}

async function loadMore(side) {
  const [start, end] = side === "earlier" ? [loaded[0][0] - AROUND, loaded[0][0] + 1] : [loaded.at(-1)[1] - 1, loaded.at(-1)[1] + AROUND];
  if (end <= 1 || start >= desk.spoken.duration) return;
  try {
    await fetchWords([Math.max(start, 0), end]);
    write(byId("words-error"), "");
  } catch (error) {
    write(byId("words-error"), `More words could not be loaded. ${asSentence(error.message)} Try again.`);
  }
  redraw();
}

function build() {
  const parts = elements("source", "stage", "blurred", "halves", "caption", "card", "unplayable", "play", "clock", "time");
  desk.screen = new Screen(parts, jobPath(jobId, "/source"), {
    time: (seconds) => desk.list.speak(desk.screen.isPlaying ? wordAt(seconds)?.index : undefined),
    frame: (video) => look?.drawFrame(video),
    crop: (places, key) => moveCrop(shownPart(), places, key),
  });
  desk.list = new WordList(byId("words"), {
    select: (words) => chosenWords?.choose(words),
    key: (event) => chosenWords.key(event) && event.preventDefault(),
    drop(side, part, word) {
      if (desk.part !== part) desk.choosePart(part);
      desk.ends.moveTo(side, word, `${side}-drag`);
    },
  });
  desk.ends = new Ends(byId("ends"), desk);
  chosenWords = new ChosenWords(byId("chosen"), desk);
  look = new Look(byId("look"), desk);
  texts = new Texts(byId("texts"), desk);
}

/** The part whose crop is dragged in the preview. */
const shownPart = () => desk.screen.part;

/** Moves a crop of a segment, not over the picture's edges. `places` has the fields of its framing that change. */
function moveCrop(part, places, key) {
  const { draft, screen } = desk;
  const { framing } = draft.clip.segments[part];
  const { zoom = 1 } = framing;
  const moved = { ...framing };
  for (const [field, place] of Object.entries(places)) {
    const { share } = CROPS[framing.kind].find((crop) => crop.field === field) ?? {};
    moved[field] = share ? nearestAt(screen.picture, screen.ratio / share, place, zoom) : nearestCross(place, zoom);
  }
  draft.change(withValue(draft.clip, ["segments", part, "framing"], moved), "Move the crop", key);
}

const wordAt = (seconds) => desk.spoken.all.findLast(({ start, end }) => seconds >= start && seconds < end + 0.3);

/** Shows a document that has just been opened. */
function opened(isRestored) {
  byId("main").removeAttribute("aria-busy");
  for (const id of ["desk", "commands"]) show(byId(id), true);
  show(byId("newer"), false);
  write(byId("problem"), "");
  showOffer();
  showPublished();
  redraw();
  desk.list.reveal(desk.spoken.inside(desk.draft.clip.segments[0].start, Infinity)[0]?.index, byId("scroller"));
  if (isRestored) {
    say("Your changes from before are still here.");
    checkSoon();
  }
}

function redraw() {
  const { draft, spoken } = desk;
  const { clip } = draft;
  desk.part = Math.min(desk.part, clip.segments.length - 1);
  const plan = playingPlan(clip, spoken);
  desk.list.draw(spoken, clip, language);
  desk.ends.draw();
  chosenWords.draw();
  const ratio = ratioOf(clip.ratio ?? desk.usualRatio);
  const { kind } = clip.segments[desk.part].framing;
  const inPart = plan.filter(({ part }) => part === desk.part);
  const hints = { auto: FOLLOWED_HINTS, people: PEOPLE_HINTS, screen: SCREEN_HINTS }[kind];
  write(byId("preview-hint"), hints?.[coverage(views, kind, ratio, inPart)] ?? "");
  desk.screen.draw(clip, plan, captionGroups(heard(clip, plan, spoken), clip.captions.preset), ratio, views);
  look.draw();
  texts.draw();
  drawTop(plan);
  mark();
  show(byId("earlier"), loaded[0][0] > 0);
  show(byId("later"), loaded.at(-1)[1] < spoken.duration);
}

function drawTop(plan) {
  const { draft } = desk;
  const title = draft.clip.title || `Clip ${number}`;
  write(byId("title"), title);
  document.title = `Edit: ${title} · KangKlip`;
  write(byId("facts"), `Clip ${number} of ${draft.document.clips.length} · ${draft.clip.tighten ? "at most " : ""}${lengthOf(plan).toFixed(1)} s`);
  able(byId("undo"), draft.history.canUndo);
  able(byId("redo"), draft.history.canRedo);
  able(byId("render"), draft.isChanged && !isRendering);
  show(byId("kept"), draft.isChanged);
  const kept = draft.isKept === false ? "This browser keeps nothing: your changes are lost when you leave." : "Your changes are kept in this browser until you render them.";
  write(byId("kept-text"), kept);
}

function able(button, can) {
  if (can) button.removeAttribute("aria-disabled");
  else button.setAttribute("aria-disabled", "true");
}

function changed(label) {
  showView("draft");
  redraw();
  say(`${label}.`);
  checkSoon();
}

/** Asks the server what is wrong with the draft. */
function checkSoon() {
  clearTimeout(checkTimer);
  checkTimer = setTimeout(async () => {
    const mine = ++checks;
    try {
      const { errors } = await ask(jobPath(jobId, "/edit/check"), { method: "POST", body: desk.draft.whole });
      if (mine === checks) setFaults(errors);
    } catch {
      // Rendering finds the same faults, and says so.
    }
  }, CHECK_AFTER);
}

function setFaults(errors) {
  faults = placed(errors, desk.draft.at, desk.draft.clip);
  mark();
}

const FIELD_NAMES = { clip: "Clip", title: "Title", hook: "Hook", description: "Description", hashtags: "Hashtags", ratio: "Shape" };

/** Places each fault at its control, and sums them up. */
function mark() {
  const { own, others } = faults;
  const words = new Map();
  const told = [];
  for (const [field, reasons] of own) {
    const index = /^word (\d+)$/.exec(field)?.[1];
    if (index) words.set(Number(index), reasons.join(" "));
    told.push(`${fieldName(field, index)}: ${reasons.join("; ")}.`);
  }
  told.push(...others.map((reason) => asSentence(reason)));
  desk.list.mark(words);
  desk.ends.mark(endFaults(own));
  look.mark(own);
  texts.mark(own);
  const count = told.length === 1 ? "One thing" : `${told.length} things`;
  write(byId("faults"), told.length ? `${count} to fix before this can be rendered. ${told.join(" ")}` : "");
}

function fieldName(field, index) {
  if (index) return `“${desk.spoken.get(Number(index))?.text ?? index}”`;
  const [, part, rest] = /^segments\[(\d+)\]\.?(.*)$/.exec(field) ?? [];
  if (part === undefined) return FIELD_NAMES[field] ?? asSentence(field.replaceAll(/[._]/g, " ")).replace(/\.$/, "");
  const name = { start: "Start", end: "End", framing: "Framing" }[rest] ?? "Part";
  return desk.draft.clip.segments.length > 1 ? `${name} of part ${Number(part) + 1}` : name;
}

/** The current part's faults by end; those of the whole clip are shown at its end. */
function endFaults(own) {
  const of = (side) => [...(own.get(`segments[${desk.part}].${side}`) ?? []), ...((side === "end" && own.get("clip")) || [])];
  return Object.fromEntries(["start", "end"].map((side) => [side, of(side).map((reason) => `This ${reason}.`).join(" ")]));
}

async function render() {
  const { draft } = desk;
  if (byId("render").getAttribute("aria-disabled")) return void say(isRendering ? "The clip is being rendered." : "Nothing has changed.");
  if (byId("api_key").value) keepApiKey(byId("api_key").value);
  const sent = draft.clip;
  await whileRendering(async () => {
    const revision = await sendDocument(jobId, draft.whole);
    show(byId("key-field"), false);
    await followRendering(jobId, revision, showProgress);
    draft.rebase(await ask(jobPath(jobId, "/edit")), sent);
    rendered();
  });
}

/** Follows a rendering that this page has not begun, or that it began before a reload. */
async function followAnothers(revision) {
  await whileRendering(async () => {
    await followRendering(jobId, revision, showProgress);
    await adoptNewest();
  });
}

async function whileRendering(work) {
  isRendering = true;
  write(byId("problem"), "");
  showProgress(0, false);
  redraw();
  try {
    await work();
  } catch (error) {
    refused(error);
  }
  isRendering = false;
  show(byId("progress"), false);
  redraw();
}

function showProgress(percent, isLost) {
  show(byId("progress"), true);
  const at = percent ?? Number(byId("progress-bar").getAttribute("aria-valuenow"));
  write(byId("progress-text"), isLost ? "The connection is lost. Trying again…" : `Rendering the clip… ${Math.floor(at)}%`);
  byId("progress-bar").setAttribute("aria-valuenow", Math.floor(at));
  byId("progress-bar").style.setProperty("--share", `${at}%`);
}

async function rendered() {
  await showPublished();
  showView("rendered");
  byId("published").play().catch(() => {}); // browsers may require a click first
  say("The clip is ready.");
}

function refused(error) {
  const { newer, faults: found = [], needsKey } = error;
  if (newer !== null && newer !== undefined) return showNewer(newer);
  if (needsKey) {
    show(byId("key-field"), true);
    byId("api_key").focus();
    return write(byId("problem"), apiKey() ? "This key was not accepted." : "");
  }
  if (found.length) setFaults(found);
  return write(byId("problem"), error.message);
}

function showNewer(revision) {
  desk.draft.keep();
  const which = revision ? ` It is at revision ${revision} now.` : "";
  write(byId("newer-text"), `Someone else has changed this job.${which} Your changes are kept in this browser.`);
  show(byId("newer"), true);
  say(byId("newer-text").textContent);
}

/** Takes over a newer revision, unless that would replace changes made here. */
async function adoptNewest() {
  const newest = await ask(jobPath(jobId, "/edit"));
  if (newest.revision <= desk.draft.revision) return;
  if (!desk.draft.isSafeToReplace(newest)) return void showNewer(newest.revision);
  desk.draft.open(newest);
  opened(false);
  rendered();
}

async function loadNewer() {
  try {
    const newest = await ask(jobPath(jobId, "/edit"));
    desk.draft.keep();
    desk.draft.open(newest);
    faults = { own: new Map(), others: [] };
    await loadWords();
    opened(false);
  } catch (error) {
    write(byId("problem"), `${asSentence(error.message)} Your changes are kept; try again in a moment.`);
  }
}

/** Offers this browser's changes of another revision. */
function showOffer() {
  const { older } = desk.draft;
  show(byId("offer"), Boolean(older));
  if (!older) return;
  write(byId("offer-text"), `This browser has changes of yours from ${formatTime(older.at)}, made before revision ${desk.draft.revision}.`);
  byId("offer-use").onclick = () => {
    desk.draft.use(older);
    showOffer();
    byId("title").focus();
  };
  byId("offer-drop").onclick = () => {
    desk.draft.drop(older);
    showOffer();
    byId("title").focus();
  };
}

/** Offers the rendered clip, and the one before it, beside the preview. */
function showPublished() {
  const { revision } = desk.draft;
  show(byId("views"), true);
  show(byId("view-before"), revision > 1);
  const video = byId("published");
  video.dataset.revision = "";
  video.addEventListener("loadedmetadata", () => learnRatio(video), { once: true });
  return setPublished(revision);
}

/** What "as rendered" means where the document names no ratio. */
function learnRatio({ videoWidth: width, videoHeight: height }) {
  if (desk.draft.published.ratio || !height) return;
  const away = (ratio) => Math.abs(ratioOf(ratio) - width / height);
  const usual = ["9:16", "4:5", "1:1", "16:9"].reduce((best, ratio) => (away(ratio) < away(best) ? ratio : best));
  if (usual === desk.usualRatio) return;
  desk.usualRatio = usual;
  redraw();
}

async function setPublished(revision) {
  const video = byId("published");
  if (video.dataset.revision === String(revision)) return;
  const at = video.currentTime;
  video.dataset.revision = revision;
  try {
    const file = await fileOf(revision);
    video.src = jobPath(jobId, `/clips/${encodeURIComponent(file)}?revision=${revision}`);
    if (at) video.addEventListener("loadedmetadata", () => (video.currentTime = Math.min(at, video.duration)), { once: true });
  } catch (error) {
    video.dataset.revision = "";
    write(byId("problem"), `The rendered clip cannot be shown. ${asSentence(error.message)} Reload the page.`);
  }
}

/** The file of the clip in a revision. */
async function fileOf(revision) {
  const [document, { clips }] = await Promise.all(["edit", "results"].map((name) => ask(jobPath(jobId, `/${name}?revision=${revision}`))));
  const place = document.clips.findIndex(({ id }) => id === desk.draft.id);
  if (!clips[place]) throw new Refused(404, "this revision does not have the clip");
  return clips[place].file;
}

/** Shows "draft", "rendered" or "before". */
function showView(view) {
  const video = byId("published");
  for (const input of byId("views").querySelectorAll("input")) input.checked = input.value === view;
  const isDraft = view === "draft";
  if (isDraft) video.pause();
  else desk.screen.pause();
  if (!isDraft) setPublished(desk.draft.revision - (view === "before" ? 1 : 0));
  video.setAttribute("aria-label", view === "before" ? "The clip before" : "The rendered clip");
  show(video, !isDraft);
  for (const id of ["stage", "transport", "preview-hint"]) show(byId(id), isDraft);
}

/** Ctrl+Z everywhere but in fields that are no part of the draft. */
function shortcut(event) {
  if (!(event.ctrlKey || event.metaKey) || event.altKey || !desk.draft?.history) return;
  if (event.target.closest(".correction, #key-field")) return;
  const key = event.key.toLowerCase();
  if (key !== "z" && key !== "y") return;
  event.preventDefault();
  if (key === "y" || event.shiftKey) desk.draft.redo();
  else desk.draft.undo();
}

byId("undo").addEventListener("click", () => desk.draft.undo());
byId("redo").addEventListener("click", () => desk.draft.redo());
byId("render").addEventListener("click", render);
byId("reset").addEventListener("click", () => {
  desk.draft.change(desk.draft.published, "Undo all changes");
  byId("title").focus();
});
byId("newer-load").addEventListener("click", loadNewer);
byId("earlier").addEventListener("click", () => loadMore("earlier"));
byId("later").addEventListener("click", () => loadMore("later"));
byId("published").addEventListener("loadedmetadata", ({ target }) => target.style.setProperty("--ratio", target.videoWidth / target.videoHeight));
byId("views").addEventListener("change", ({ target }) => showView(target.value));
document.addEventListener("keydown", shortcut);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && desk.draft && !isRendering) adoptNewest().catch(() => {}); // rendering finds out as well
});
window.addEventListener("storage", ({ key }) => {
  if (desk.draft && key === desk.draft.storedAs) show(byId("elsewhere"), true);
});
begin();
