// The signals behind a selection, in words. Values are standard deviations from the talk's average.

/** Title of each signal, by its name in the manifest. `less`: a lower value is better. */
export const SIGNALS = {
  short_sentences: { title: "Short sentences" },
  dialogue: { title: "Dialogue" },
  first_person: { title: "First person" },
  discourse: { title: "Conversational tone" },
  question: { title: "Questions" },
  second_person: { title: "Speaks to the viewer" },
  positive: { title: "Positive words" },
  word_length: { title: "Short words", less: true },
  rare_words: { title: "Common words", less: true },
  numbers: { title: "Few numbers", less: true },
  pauses: { title: "Pauses" },
  slow_speech: { title: "Unhurried pace" },
  opening: { title: "Strong opening" },
  completeness: { title: "Complete thought" },
  topic: { title: "One topic" },
  claim: { title: "Makes a point" },
  loudness: { title: "Raised voice" },
  dynamics: { title: "Dynamic volume" },
  melody: { title: "Lively intonation" },
  reaction: { title: "Audience reacts" },
  replays: { title: "Most replayed" },
  chapter: { title: "Within a chapter" },
  promotion: { title: "No promotion", less: true },
  repetition: { title: "No repetition", less: true },
  asked_topic: { title: "On your topic" },
  dead_air: { title: "No dead air", less: true },
};

const SHOWN = 6;

/** The strongest signals of a clip, best first: [{title, value}]. */
export function strongest(scores) {
  const named = Object.entries(scores ?? {}).filter(([, value]) => Number.isFinite(value));
  const read = named.map(([name, value]) => {
    const signal = Object.hasOwn(SIGNALS, name) ? SIGNALS[name] : { title: name.replaceAll("_", " ") };
    return { title: signal.title, value: signal.less ? -value : value };
  });
  read.sort((one, other) => Math.abs(other.value) - Math.abs(one.value));
  return read.slice(0, SHOWN).sort((one, other) => other.value - one.value);
}
