// Which control a fault of the document belongs to. Pure.

const PLACE = /^clips\[(\d+)\]\.?(.*)$/;

/**
 * Faults by control: {own: Map of field to sentences, others: [sentence]}. A field is "title", "captions.preset",
 * "segments[0].start", "word 57", or "clip". `faults` are [{path, reason}]; `at` is the clip's place.
 */
export function placed(faults, at, clip) {
  const own = new Map();
  const others = [];
  for (const { path, reason } of faults) {
    const [, place, rest] = PLACE.exec(path) ?? [];
    if (Number(place) !== at) others.push(place === undefined ? reason : `Clip ${Number(place) + 1}: ${reason}`);
    else {
      const field = fieldOf(rest, clip);
      own.set(field, [...(own.get(field) ?? []), reason]);
    }
  }
  return { own, others };
}

function fieldOf(rest, clip) {
  const [, list, place] = /^words\.(corrected|hidden|removed)\[(\d+)\]/.exec(rest) ?? [];
  if (list) {
    const entry = clip.words[list][place];
    return `word ${entry?.index ?? entry}`;
  }
  if (/^segments\[\d+\]$/.test(rest)) return `${rest}.end`;
  return rest.replace(/^hashtags\[.*$/, "hashtags").replace(/^(segments\[\d+\]\.framing).*$/, "$1") || "clip";
}
