// Geometry of a crop at rest. Pure. Ratios are width to height.

/** "9:16" as a number. */
export function ratioOf(text) {
  const [width, height] = text.split(":").map(Number);
  return width / height;
}

/**
 * The part of the picture that a clip of ratio `clip` shows, in shares of the picture: {x, y, width, height}.
 * `at` is where its middle is, 0 to 1, along the side that is too long.
 */
export function cropWindow(picture, clip, at) {
  const width = Math.min(clip / picture, 1);
  const height = Math.min(picture / clip, 1);
  return { x: edge(at, width), y: edge(at, height), width, height };
}

const edge = (at, size) => Math.min(Math.max(at - size / 2, 0), 1 - size);

/** The same as a CSS object-position in percent. */
export function objectPosition(picture, clip, at) {
  const { x, y, width, height } = cropWindow(picture, clip, at);
  const percent = (offset, size) => (size >= 1 ? 50 : (offset / (1 - size)) * 100);
  return { x: percent(x, width), y: percent(y, height) };
}

/** The nearest position at which the crop still moves, so that a drag never has to cross a dead stretch. */
export function nearestAt(picture, clip, at) {
  const size = Math.min(clip / picture, picture / clip, 1);
  return Math.round(Math.min(Math.max(at, size / 2), 1 - size / 2) * 1000) / 1000;
}
