// Puts the changes of an older draft onto a newer revision of its clip. Pure.

/** Whether two JSON values are equal; the order of an object's fields does not matter. */
export function equal(one, other) {
  if (Object.is(one, other)) return true;
  if (typeof one !== "object" || typeof other !== "object" || !one || !other) return false;
  if (Array.isArray(one) !== Array.isArray(other)) return false;
  const names = Object.keys(one);
  return names.length === Object.keys(other).length && names.every((name) => Object.hasOwn(other, name) && equal(one[name], other[name]));
}

/** The newer clip with what the draft changed of its base; where both changed the same field, the draft's value. */
export function merged(base, draft, newer) {
  if (equal(draft, base)) return newer;
  if (!isObject(base) || !isObject(draft) || !isObject(newer)) return draft;
  const names = new Set([...Object.keys(draft), ...Object.keys(newer)]);
  return Object.fromEntries([...names].map((name) => [name, merged(base[name], draft[name], newer[name])]));
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
