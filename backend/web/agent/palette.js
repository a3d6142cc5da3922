// Ctrl+K: every command and every conversation by a few letters. A native dialog holds the focus and gives it back.
import { html, Component } from '../ui/view.js';
import { Icon } from '../ui/icons.js';
import { t } from '../ui/text.js';
import { nameOf } from './list.js';

const ROWS_MAX = 9;
const SEARCH_MS = 250;

export class Palette extends Component {
  state = { query: '', pick: 0, found: [] };
  #timer = 0;

  componentDidMount() { this.base.showModal(); }
  componentWillUnmount() { clearTimeout(this.#timer); }

  #commands() {
    const { desk } = this.props;
    const entry = desk.entryInFront;
    const mine = entry && desk.isMineState(entry.state);
    return [
      ...desk.mine.map((held) => ({ icon: 'chat', text: t('goTo', nameOf(held.state)), more: held.state.last_text, run: () => desk.go(held.id) })),
      desk.lists.waiting?.length ? { icon: 'forward', text: t('nextWaiting'), run: () => desk.takeNext() } : null,
      mine ? { icon: 'transfer', text: t('transfer'), run: () => desk.ask('transfer') } : null,
      mine ? { icon: 'done', text: t('closeIt'), run: () => desk.ask('close') } : null,
      { icon: 'bolt', text: t('editCanned'), run: () => desk.ask('canned') },
      ...['online', 'away', 'offline'].filter((status) => status !== desk.me.status).map((status) => ({ icon: 'person', text: `${t('statusLabel')}: ${t(`status${status[0].toUpperCase()}${status.slice(1)}`)}`, run: () => desk.setStatus(status) })),
      { icon: desk.sound ? 'mute' : 'bell', text: t('sound'), run: () => desk.toggle('sound') },
      { icon: 'inbox', text: t('badge'), run: () => desk.toggle('badge') },
      { icon: 'leave', text: t('signOut'), run: () => desk.account.signOut() },
    ].filter(Boolean);
  }

  #rows() {
    const query = this.state.query.trim().toLowerCase();
    const all = this.#commands();
    const named = all.filter((row) => row.text.toLowerCase().includes(query));
    const commands = [...named, ...all.filter((row) => !named.includes(row) && row.more?.toLowerCase().includes(query))]; // what it is called goes before what was said
    const found = query ? this.state.found.map((state) => ({ icon: 'search', text: nameOf(state), more: state.last_text, run: () => this.props.desk.go(state.conversation) })) : [];
    return [...commands, ...found].slice(0, ROWS_MAX);
  }

  #onInput = (event) => {
    const query = event.target.value;
    this.setState({ query, pick: 0 });
    clearTimeout(this.#timer);
    if (query.trim()) this.#timer = setTimeout(async () => this.setState({ found: await this.props.desk.search(query.trim()) ?? [] }), SEARCH_MS);
  };

  #run(row) {
    this.props.desk.openPalette(false);
    row?.run();
  }

  #onKey = (event) => {
    const rows = this.#rows();
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      event.preventDefault();
      this.setState({ pick: (this.state.pick + (event.key === 'ArrowDown' ? 1 : -1) + rows.length) % Math.max(rows.length, 1) });
    } else if (event.key === 'Enter' && !event.isComposing) {
      event.preventDefault();
      this.#run(rows[this.state.pick]);
    }
  };

  render({ desk }, { query, pick }) {
    const rows = this.#rows();
    return html`
      <dialog class="palette" aria-label=${t('openCommands')} onClose=${() => desk.openPalette(false)} onClick=${(event) => { if (event.target === this.base) desk.openPalette(false); }}>
        <div class="palette-field"><${Icon} name="search" /><input type="text" autofocus placeholder=${t('commandHint')} aria-label=${t('commandHint')} value=${query} role="combobox" aria-expanded="true" aria-controls="palette-rows" aria-activedescendant=${rows.length ? `palette-${pick}` : undefined} onInput=${this.#onInput} onKeyDown=${this.#onKey} /></div>
        <ul id="palette-rows" role="listbox" aria-label=${t('actions')}>
          ${rows.map((row, i) => html`<li id=${`palette-${i}`} role="option" aria-selected=${String(i === pick)} class=${i === pick ? 'is-picked' : ''} onPointerMove=${() => pick !== i && this.setState({ pick: i })} onClick=${() => this.#run(row)}>
            <${Icon} name=${row.icon} small /><span>${row.text}</span>${row.more ? html`<small>${row.more}</small>` : null}</li>`)}
        </ul>
        ${rows.length ? null : html`<p class="palette-none">${t('nothingFound')}</p>`}
      </dialog>`;
  }
}
