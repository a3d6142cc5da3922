// Round ends for axes.

/** The next 1, 2 or 4 × 10ⁿ at or above: its half is round as well. */
export function niceCeiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 10].map((step) => step * power).find((step) => step >= value * 0.999999);
}
