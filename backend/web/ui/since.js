// Times that run: one clock for the whole page, and only the numbers are drawn again, never the list around them.
import { html, Component, cls } from './view.js';
import { stopwatch, nowUs } from './time.js';

const watchers = new Set();
let timer = 0;

function watch(component) {
  watchers.add(component);
  timer ||= setInterval(() => {
    if (document.visibilityState === 'visible') for (const watcher of watchers) watcher.setState({});
  }, 1000);
  return () => {
    watchers.delete(component);
    if (watchers.size === 0) { clearInterval(timer); timer = 0; }
  };
}

/** How long since `us`; turns caution and then danger. Props: us, cautionMs, dangerMs, label(text). */
export class Since extends Component {
  componentDidMount() { this.off = watch(this); }
  componentWillUnmount() { this.off(); }

  render({ us, cautionMs = 60_000, dangerMs = 180_000, label }) {
    const ms = (nowUs() - us) / 1000;
    const text = stopwatch(ms);
    return html`<span class=${cls('since numeric', ms >= dangerMs ? 'is-danger' : ms >= cautionMs && 'is-caution')} title=${label?.(text)}><span aria-hidden="true">${text}</span><span class="only-for-readers">${label?.(text) ?? text}</span></span>`;
  }
}
