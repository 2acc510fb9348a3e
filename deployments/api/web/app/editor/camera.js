// What the camera showed in the rendered clip, and whether that is known for what the preview plays. Pure.

const ALIKE = 0.03; // two ratios that differ by less, as a share, are the same

/**
 * What the camera shows at a time of the source, or null where that is not known: a crop of another shape, a framing
 * that was not rendered there, or seconds that were not. It is {layout, windows}: the parts of the picture, one above
 * the other, as shares {x, y, width, height}; `cover` has none, nor has `fit` if it shows the whole picture. `screen` has
 * the whole picture and a crop below it.
 */
export function viewAt(views, kind, ratio, seconds) {
  const view = known(views, kind, ratio).find(({ start, end }) => seconds >= start && seconds < end);
  return view ? { layout: view.layout, windows: windowsOf(view, seconds) } : null;
}

/** "all", "some" or "none" of the seconds from `start` to `end`. */
export function coverage(views, kind, ratio, parts) {
  const wanted = parts.reduce((sum, { start, end }) => sum + end - start, 0);
  const found = parts.reduce((sum, part) => sum + secondsIn(known(views, kind, ratio), part), 0);
  if (found < 0.05) return "none";
  return found > wanted - 0.1 ? "all" : "some";
}

function secondsIn(views, { start, end }) {
  return views.reduce((sum, view) => sum + Math.max(Math.min(view.end, end) - Math.max(view.start, start), 0), 0);
}

/** Whether the whole picture is shown, smaller than the clip. */
export const isWhole = (layout) => layout === "fit" || layout === "cover";

const known = (views, kind, ratio) => views.filter((view) => view.kind === kind && fits(view, ratio));

function fits(view, ratio) {
  return isWhole(view.layout) || Math.abs(view.ratio / partRatio(view, ratio) - 1) < ALIKE;
}

/** Width to height of the part of the clip that shows the view's crop. */
function partRatio({ layout, ratio: drawn, width, height }, ratio) {
  if (layout === "split") return 2 * ratio;
  const picture = (drawn * height) / width;
  return layout === "screen" ? 1 / (1 / ratio - 1 / picture) : ratio;
}

function windowsOf({ layout, width, height, keys }, seconds) {
  if (isWhole(layout) && !keys.length) return [];
  const places = layout === "split" ? keys.slice(0, 2) : [placeAt(keys, seconds)];
  const crops = places.map(({ x, y }) => ({ x: Math.max(x, 0), y: Math.max(y, 0), width, height }));
  return layout === "screen" ? [{ x: 0, y: 0, width: 1, height: 1 }, ...crops] : crops;
}

/** Where a picture of this ratio is fitted into a canvas: its corner, width and height. */
export function fitted(ratio, canvas) {
  const [width, height] = [Math.min(canvas.width, canvas.height * ratio), Math.min(canvas.height, canvas.width / ratio)];
  return [(canvas.width - width) / 2, (canvas.height - height) / 2, width, height];
}

/** Between two keys, a crop moves steadily. */
function placeAt(keys, seconds) {
  const after = keys.findIndex(({ t }) => t > seconds);
  if (after <= 0) return after < 0 ? keys.at(-1) : keys[0];
  const [from, to] = [keys[after - 1], keys[after]];
  const share = (seconds - from.t) / (to.t - from.t);
  return { x: from.x + share * (to.x - from.x), y: from.y + share * (to.y - from.y) };
}
