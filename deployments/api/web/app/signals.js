// What counted for a clip, in words. Values are standard deviations from the talk's average.

/** What much, and what little, of each signal is called, by its name in the manifest. */
export const SIGNALS = {
  pauses: ["Pauses that stand out", "No pauses"],
  short_sentences: ["Short sentences", "Long sentences"],
  word_length: ["Long words", "Short words"],
  variety: ["Many different words", "Repeated words"],
  rare_words: ["Rare words", "Common words"],
  numbers: ["Numbers", "Few numbers"],
  first_person: ["First person", "Not about the speaker"],
  second_person: ["Speaks to the viewer", "Does not address the viewer"],
  dialogue: ["Dialogue", "No dialogue"],
  discourse: ["Conversational tone", "Formal tone"],
  positive: ["Positive words", "Few positive words"],
  claim: ["Makes a point", "Makes no point"],
  question: ["Questions", "No questions"],
  exclamations: ["Exclamations", "No exclamations"],
  centrality: ["On the main subject", "Away from the main subject"],
  length: ["Uses the length", "Short clip"],
  early: ["Early in the video", "Late in the video"],
  closing: ["At the very end", "Not at the very end"],
  opening: ["Strong opening", "Weak opening"],
  completeness: ["Complete thought", "Incomplete thought"],
  topic: ["One topic", "Several topics"],
  loudness: ["Raised voice", "Quiet voice"],
  dynamics: ["Dynamic volume", "Even volume"],
  melody: ["Lively intonation", "Flat intonation"],
  reaction: ["Audience reacts", "No reaction"],
  replays: ["Most replayed", "Rarely replayed"],
  chapter: ["Within a chapter", "Across chapters"],
  promotion: ["Promotion", "No promotion"],
  repetition: ["Repetition", "No repetition"],
  asked_topic: ["On your topic", "Off your topic"],
  dead_air: ["Dead air", "No dead air"],
};

const SHOWN = 6;

/** What counted most for a clip, and against it, best first: [{title, value}]. Older manifests have only the scores. */
export function strongest(scores, counted) {
  const named = Object.entries(counted ?? scores ?? {}).filter(([, value]) => Number.isFinite(value));
  const read = named.map(([name, value]) => ({ title: titleOf(name, scores?.[name] ?? value), value }));
  read.sort((one, other) => Math.abs(other.value) - Math.abs(one.value));
  return read.slice(0, SHOWN).sort((one, other) => other.value - one.value);
}

function titleOf(name, value) {
  if (!Object.hasOwn(SIGNALS, name)) return name.replaceAll("_", " ");
  const [much, little] = SIGNALS[name];
  return value < 0 ? little : much;
}
