// The file in the form: chosen, or dropped anywhere on the page. It uploads while the user decides on the rest.

import { byId, show, write } from "./dom.js";
import { Upload } from "./upload.js";
import { formatSize } from "./words.js";

const input = byId("file");
let chosen = null; // {file, upload}

/** The chosen file, or null. */
export const chosenFile = () => chosen?.file ?? null;

/** Waits for the upload; returns its address. Throws Refused or Unreachable. */
export const uploadedFile = () => chosen.upload.finish();

function choose(file) {
  chosen?.upload.remove();
  const upload = new Upload(file, (sent, isLost) => chosen?.file === file && report(file, sent, isLost));
  chosen = { file, upload };
  write(byId("file-name"), file.name);
  write(byId("file-error"), file.size ? "" : "This file is empty.");
  report(file, 0, false);
  show(byId("link"), false);
  show(byId("chosen"), true);
  if (file.size) upload.finish().catch(() => {}); // pressing the button tries again, and shows why
}

function report(file, sent, isLost) {
  byId("file-progress").value = file.size ? sent / file.size : 0;
  const done = sent === file.size && file.size > 0;
  write(byId("file-sent"), done ? formatSize(file.size) : `${formatSize(sent)} of ${formatSize(file.size)}`);
  write(byId("file-state"), done ? "Uploaded." : isLost ? "The connection is lost. Trying again…" : "Uploading…");
}

function forget() {
  chosen?.upload.remove();
  chosen = null;
  input.value = "";
  write(byId("file-error"), "");
  show(byId("chosen"), false);
  show(byId("link"), true);
  byId("video_url").focus();
}

const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

function drag(event) {
  if (!carriesFiles(event)) return;
  event.preventDefault(); // or the browser opens the file
  document.body.classList.toggle("dropping", event.type !== "drop" && event.type !== "dragleave");
  const [file] = event.type === "drop" ? event.dataTransfer.files : [];
  if (file) choose(file);
}

input.addEventListener("change", () => input.files[0] && choose(input.files[0]));
byId("file-remove").addEventListener("click", forget);
for (const type of ["dragover", "dragleave", "drop"]) window.addEventListener(type, drag);
