// Conversations of chosen days as CSV or JSON Lines. Streamed to the disk where the browser can; else collected first.
import { html, Component } from '../ui/view.js';
import { Icon } from '../ui/icons.js';
import { t } from '../ui/text.js';

const DAY_MS = 86_400_000;
const isoDay = (ms) => new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 10);

/** The Unix second at which a local day begins. */
const startOf = (day) => Math.floor(new Date(`${day}T00:00:00`).getTime() / 1000);

export class Export extends Component {
  state = { from: isoDay(Date.now() - 6 * DAY_MS), to: isoDay(Date.now()), error: '', busy: false };

  async #download(format) {
    const { from, to } = this.state;
    this.setState({ busy: true, error: '' });
    try {
      const query = new URLSearchParams({ format, from: startOf(from), to: startOf(to) + 86_400 });
      const response = await fetch(`/api/admin/export-sessions?${query}`, { headers: { Authorization: `Bearer ${this.props.account.token}` } });
      if (!response.ok) throw new Error((await response.json().catch(() => ({}))).detail ?? t('somethingWrong'));
      const name = `tidegate-sessions-${from}-${to}.${format}`;
      if (window.showSaveFilePicker) {
        const file = await window.showSaveFilePicker({ suggestedName: name });
        await response.body.pipeTo(await file.createWritable());
      } else {
        const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(await response.blob()), download: name });
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
      }
    } catch (error) {
      if (error.name !== 'AbortError') this.setState({ error: error.message });
    } finally {
      this.setState({ busy: false });
    }
  }

  render(_, { from, to, error, busy }) {
    const wrong = from > to;
    return html`
      <header class="admin-head"><h1>${t('exports')}</h1></header>
      <section class="panel export">
        <h2>${t('exportTitle')}</h2><p>${t('exportHint')}</p>
        <div class="inline-form">
          <label class="field"><span>${t('from')}</span><input class="input" type="date" value=${from} onInput=${(event) => this.setState({ from: event.target.value })} /></label>
          <label class="field"><span>${t('to')}</span><input class="input" type="date" value=${to} onInput=${(event) => this.setState({ to: event.target.value })} /></label>
        </div>
        <div class="export-actions"><button class="button is-primary" type="button" disabled=${busy || wrong} onClick=${() => this.#download('csv')}><${Icon} name="download" small />${t('asCsv')}</button>
          <button class="button" type="button" disabled=${busy || wrong} onClick=${() => this.#download('jsonl')}><${Icon} name="download" small />${t('asJsonLines')}</button></div>
        ${error ? html`<p class="is-danger" role="alert">${error}</p>` : null}
      </section>`;
  }
}
