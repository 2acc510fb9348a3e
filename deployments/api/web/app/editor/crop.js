// Geometry of a crop at rest. Pure. Ratios are width to height.

/** "9:16" as a number. */
export function ratioOf(text) {
  const [width, height] = text.split(":").map(Number);
  return width / height;
}

/**
 * The part of the picture that a clip of ratio `clip` shows, in shares of the picture: {x, y, width, height}.
 * `at` is where its middle is, 0 to 1, along the side that is too long; `cross`, along the other one, counts with a zoom.
 */
export function cropWindow(picture, clip, at, zoom = 1, cross = 0.5) {
  const width = Math.min(clip / picture, 1) / zoom;
  const height = Math.min(picture / clip, 1) / zoom;
  const [x, y] = movesAcross(picture, clip) ? [at, cross] : [cross, at];
  return { x: edge(x, width), y: edge(y, height), width, height };
}

/** Whether a crop's `at` is a place from left to right. */
export const movesAcross = (picture, clip) => clip <= picture;

const edge = (at, size) => Math.min(Math.max(at - size / 2, 0), 1 - size);

/** The same as a CSS object-position in percent. */
export function objectPosition(picture, clip, at) {
  const { x, y, width, height } = cropWindow(picture, clip, at);
  const percent = (offset, size) => (size >= 1 ? 50 : (offset / (1 - size)) * 100);
  return { x: percent(x, width), y: percent(y, height) };
}

/** The nearest position at which the crop still moves, so that a drag never has to cross a dead stretch. */
export function nearestAt(picture, clip, at, zoom = 1) {
  return nearest(at, Math.min(clip / picture, picture / clip, 1) / zoom);
}

/** The same along the other side. */
export const nearestCross = (cross, zoom) => nearest(cross, 1 / zoom);

const nearest = (middle, size) => Math.round(Math.min(Math.max(middle, size / 2), 1 - size / 2) * 1000) / 1000;
