// The shop's accent colour made safe to read: text on it, and it as text on light and dark surfaces, at 4.5 : 1.

const WHITE = [255, 255, 255];
const INK = [18, 22, 28];
const SURFACES = { light: [237, 239, 242], dark: [39, 43, 50] }; // --surface-2, the least favourable of each mode

/** '#0a7' or '#00aa77' → [r, g, b], or null. */
export function parseHex(text) {
  const match = /^#?([0-9a-f]{3}|[0-9a-f]{6})$/i.exec(String(text ?? '').trim());
  if (!match) return null;
  const hex = match[1].length === 3 ? [...match[1]].map((digit) => digit + digit).join('') : match[1];
  return [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

const linear = (channel) => (channel / 255 <= 0.04045 ? channel / 255 / 12.92 : ((channel / 255 + 0.055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);

/** WCAG contrast, 1…21. */
export function contrast(a, b) {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

const mix = (a, b, part) => a.map((channel, i) => Math.round(channel + (b[i] - channel) * part));
const css = (rgb) => `rgb(${rgb.join(' ')})`;

/** The colour moved toward `to` until it reads on `ground`. */
function readable(rgb, ground, to) {
  for (let part = 0; part <= 1; part += 0.04) {
    const candidate = mix(rgb, to, part);
    if (contrast(candidate, ground) >= 4.6) return candidate;
  }
  return to;
}

/** Custom properties for an accent; null when the text isn't a colour. */
export function accentTokens(text, dark) {
  const rgb = parseHex(text);
  if (!rgb) return null;
  const onWhite = contrast(rgb, WHITE) >= 4.5;
  const fill = onWhite ? rgb : contrast(rgb, WHITE) >= 3 ? readable(rgb, WHITE, [0, 0, 0]) : rgb;
  return {
    '--accent': css(fill),
    '--on-accent': css(contrast(fill, WHITE) >= 4.5 ? WHITE : INK),
    '--accent-ink': css(dark ? readable(rgb, SURFACES.dark, WHITE) : readable(rgb, SURFACES.light, [0, 0, 0])),
    '--accent-soft': css(mix(dark ? [24, 28, 34] : WHITE, rgb, dark ? 0.24 : 0.12)),
  };
}

/** Sets the accent on the page and keeps it right when the system turns dark. */
export function useAccent(text) {
  const query = matchMedia('(prefers-color-scheme: dark)');
  const apply = () => {
    const tokens = accentTokens(text, query.matches);
    for (const [name, value] of Object.entries(tokens ?? {})) document.documentElement.style.setProperty(name, value);
  };
  apply();
  query.addEventListener?.('change', apply);
}
