// A small time series in SVG: one line, an axis with its unit, the newest value in words. Colour only for state. Drawn at
// the width it has, so that its text keeps its size.
import { html, Component } from '../ui/view.js';
import { t } from '../ui/text.js';
import { clockTime } from '../ui/time.js';
import { niceCeiling } from './scale.js';

const HEIGHT = 112;
const LEFT = 40;
const BOTTOM = 18;
const TOP = 8;

const short = (value) => (value >= 10_000 ? `${Math.round(value / 1000)}k` : value >= 10 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(value < 1 ? 2 : 1));

/** Props: title, unit, points, pick(point), spanMs, whole (values are counts). */
export class Chart extends Component {
  state = { width: 0 };

  componentDidMount() {
    this.observer = new ResizeObserver(([entry]) => this.setState({ width: Math.round(entry.contentRect.width) }));
    this.observer.observe(this.base);
  }

  componentWillUnmount() { this.observer.disconnect(); }

  #drawing({ title, unit, points, pick, spanMs, whole }, width) {
    const end = points.at(-1).at;
    const start = end - spanMs;
    const shown = points.filter((point) => point.at >= start);
    const top = Math.max(niceCeiling(Math.max(...shown.map(pick), 0)), whole ? 2 : 0);
    const x = (at) => LEFT + ((at - start) / spanMs) * (width - LEFT - 2);
    const y = (value) => TOP + (1 - value / top) * (HEIGHT - BOTTOM - TOP);
    const line = shown.map((point, i) => `${i ? 'L' : 'M'}${x(point.at).toFixed(1)} ${y(pick(point)).toFixed(1)}`).join('');
    return html`
      <svg width=${width} height=${HEIGHT} viewBox=${`0 0 ${width} ${HEIGHT}`} role="img" aria-label=${`${title}: ${short(pick(shown.at(-1)))} ${unit}`}>
        ${[top, top / 2, 0].map((value) => html`<g class="chart-grid"><line x1=${LEFT} x2=${width} y1=${y(value)} y2=${y(value)} /><text x=${LEFT - 8} y=${y(value) + 4} text-anchor="end">${short(value)}</text></g>`)}
        <text x=${LEFT} y=${HEIGHT - 2}>${clockTime(start * 1000)}</text><text x=${width} y=${HEIGHT - 2} text-anchor="end">${clockTime(end * 1000)}</text>
        <path class="chart-area" d=${`${line}L${x(end).toFixed(1)} ${y(0)}L${x(shown[0].at).toFixed(1)} ${y(0)}Z`} /><path class="chart-line" d=${line} />
      </svg>`;
  }

  render(props, { width }) {
    const last = props.points.at(-1);
    return html`
      <figure class="chart">
        <figcaption><span>${props.title}</span><b class="numeric">${last ? short(props.pick(last)) : '–'}<small>${props.unit}</small></b></figcaption>
        ${props.points.length > 1 && width > LEFT * 2 ? this.#drawing(props, width) : html`<p class="chart-none">${t('noData')}</p>`}
      </figure>`;
  }
}
