// The fields of the document that this page has no control of its own for, read from its JSON Schema. Pure.

const OWN = {
  EditClip: ["id", "title", "hook", "description", "hashtags", "segments", "words", "ratio", "captions"],
  EditCaptions: ["shown", "preset", "position"],
};
/** [{path, kind, name, hint, options, initial, most, least}]; `kind` is "flag", "choice", "number" or "text". */
export function otherFields(schema) {
  return [...fieldsOf(schema, "EditClip", []), ...fieldsOf(schema, "EditCaptions", ["captions"])];
}

function fieldsOf(schema, type, path) {
  const properties = schema?.$defs?.[type]?.properties ?? {};
  return Object.entries(properties)
    .filter(([name]) => !OWN[type]?.includes(name))
    .flatMap(([name, property]) => fieldOf(schema, property, [...path, name]));
}

function fieldOf(schema, property, path) {
  const form = resolved(schema, property);
  if (form.type === "object" && form.name) return fieldsOf(schema, form.name, path);
  const kind = form.enum ? "choice" : { boolean: "flag", number: "number", integer: "number", string: "text" }[form.type];
  if (!kind) return [];
  const range = { least: form.minimum, most: form.maximum ?? form.maxLength };
  const initial = property.default ?? null;
  const options = form.enum && (form.isOptional ? [null, ...form.enum] : form.enum);
  return [{ path, kind, name: named(path.at(-1)), hint: property.description ?? "", options, initial, isOptional: form.isOptional, ...range }];
}

/** The property without references; `isOptional` where it may be null. */
function resolved(schema, property) {
  const forms = property.anyOf ?? [property];
  const form = forms.find(({ type }) => type !== "null") ?? {};
  const name = form.$ref?.split("/").at(-1);
  const target = name ? schema.$defs[name] : form;
  return { ...target, ...(target.const !== undefined && { enum: [target.const] }), name, isOptional: forms.length > 1 };
}

/** The kinds of framing: [{kind, hint}]. Those that need more than their kind are offered only if this page knows them. */
export function framings(schema, known) {
  const mapping = schema?.$defs?.EditSegment?.properties?.framing?.discriminator?.mapping;
  if (!mapping) return known.map((kind) => ({ kind, hint: "" }));
  return Object.entries(mapping)
    .map(([kind, target]) => ({ kind, form: schema.$defs[target.split("/").at(-1)] ?? {} }))
    .filter(({ kind, form }) => known.includes(kind) || (form.required ?? []).every((name) => name === "kind"))
    .map(({ kind, form }) => ({ kind, hint: form.description ?? "" }));
}

/** What a field of a type may be, such as the names of the caption presets; empty where the schema has none. */
export function namesOf(schema, type, field) {
  const property = schema?.$defs?.[type]?.properties?.[field];
  return (property && resolved(schema, property).enum) || [];
}

/** Least and most of a number in a type: {least, most}; 1 and 1 where the schema has none. */
export function rangeOf(schema, type, field) {
  const { minimum = 1, maximum = minimum } = schema?.$defs?.[type]?.properties?.[field] ?? {};
  return { least: minimum, most: maximum };
}

/** What fields have that a document leaves out: [{path, initial}]. */
export function defaults(schema) {
  const captions = schema?.$defs?.EditCaptions?.properties ?? {};
  const own = ["preset", "position"].filter((name) => name in captions);
  return [...own.map((name) => ({ path: ["captions", name], initial: captions[name].default ?? null })), ...otherFields(schema)];
}

/** "hook_overlay" as "Hook overlay". */
export function named(field) {
  const words = String(field).replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}
