// A small time series in SVG: one line, an axis with its unit, the newest value in words. Colour only for state.
import { html } from '../ui/view.js';
import { t } from '../ui/text.js';
import { clockTime } from '../ui/time.js';
import { niceCeiling } from './scale.js';

const WIDTH = 320;
const HEIGHT = 96;
const LEFT = 38;
const BOTTOM = 16;

const short = (value) => (value >= 10_000 ? `${Math.round(value / 1000)}k` : value >= 10 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(value < 1 ? 2 : 1));

export function Chart({ title, unit, points, pick, spanMs, format = short }) {
  const end = points.at(-1)?.at ?? Date.now();
  const start = end - spanMs;
  const shown = points.filter((point) => point.at >= start);
  const top = niceCeiling(Math.max(...shown.map(pick), 0));
  const x = (at) => LEFT + ((at - start) / spanMs) * (WIDTH - LEFT - 4);
  const y = (value) => 6 + (1 - value / top) * (HEIGHT - BOTTOM - 6);
  const line = shown.map((point, i) => `${i ? 'L' : 'M'}${x(point.at).toFixed(1)} ${y(pick(point)).toFixed(1)}`).join('');
  const last = shown.at(-1);
  return html`
    <figure class="chart">
      <figcaption><span>${title}</span><b class="numeric">${last ? format(pick(last)) : '–'}<small>${unit}</small></b></figcaption>
      ${shown.length > 1 ? html`
        <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label=${`${title}: ${format(pick(last))} ${unit}`}>
          ${[top, top / 2, 0].map((value) => html`<g class="chart-grid"><line x1=${LEFT} x2=${WIDTH} y1=${y(value)} y2=${y(value)} /><text x=${LEFT - 6} y=${y(value) + 4} text-anchor="end">${short(value)}</text></g>`)}
          <text class="chart-time" x=${LEFT} y=${HEIGHT - 2}>${clockTime(start * 1000)}</text><text class="chart-time" x=${WIDTH} y=${HEIGHT - 2} text-anchor="end">${clockTime(end * 1000)}</text>
          <path class="chart-area" d=${`${line}L${x(last.at).toFixed(1)} ${y(0)}L${x(shown[0].at).toFixed(1)} ${y(0)}Z`} /><path class="chart-line" d=${line} />
        </svg>` : html`<p class="chart-none">${t('noData')}</p>`}
    </figure>`;
}
