// Times on the editor's page.

/** "1:02.34" or "1:02:03.45". */
export function formatClock(seconds) {
  const hundredths = Math.round(Math.max(seconds, 0) * 100);
  const [hours, minutes, rest] = [Math.floor(hundredths / 360_000), Math.floor(hundredths / 6_000) % 60, (hundredths % 6_000) / 100];
  const tail = rest.toFixed(2).padStart(5, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
}
