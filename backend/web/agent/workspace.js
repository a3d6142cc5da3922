// The console's frame: bar, three columns (one at a time on a phone), banner, shortcuts.
import { html, Component, cls } from '../ui/view.js';
import { Icon } from '../ui/icons.js';
import { t } from '../ui/text.js';
import { duration } from '../ui/time.js';
import { ConversationList, nameOf } from './list.js';
import { ConversationView } from './conversation.js';
import { CustomerPanel } from './customer.js';
import { Palette } from './palette.js';
import { RepliesEditor } from './replies.js';

const STATUSES = ['online', 'away', 'offline'];
const statusText = (status) => (status ? t(`status${status[0].toUpperCase()}${status.slice(1)}`) : '…');

class StatusMenu extends Component {
  state = { open: false };

  #close = (event) => { if (!this.base?.contains(event.target)) this.setState({ open: false }); };
  componentDidMount() { document.addEventListener('pointerdown', this.#close); }
  componentWillUnmount() { document.removeEventListener('pointerdown', this.#close); }

  #onKey = (event) => {
    if (event.key === 'Escape') { this.setState({ open: false }); this.base.querySelector('button').focus(); }
    if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return;
    const items = [...this.base.querySelectorAll('[role=menuitemradio]')];
    if (!items.length) return;
    event.preventDefault();
    const at = items.indexOf(document.activeElement) + (event.key === 'ArrowDown' ? 1 : -1);
    items[(at + items.length) % items.length].focus();
  };

  render({ desk }, { open }) {
    const { status, capacity } = desk.me;
    const count = Math.max(desk.me.open, desk.mine.length);
    return html`
      <div class="status-menu" onKeyDown=${this.#onKey}>
        <button class="status-button" type="button" aria-haspopup="menu" aria-expanded=${String(open)} onClick=${() => this.setState({ open: !open })}>
          <i class=${`dot is-${status}`}></i><span class="only-for-readers">${t('statusLabel')}</span><span class="status-text">${statusText(status)}</span><b class="numeric" title=${t('capacityLabel', count, capacity)}>${t('capacity', count, capacity)}</b><${Icon} name="down" small />
        </button>
        ${open ? html`<div class="menu" role="menu">
          ${STATUSES.map((choice) => html`<button type="button" role="menuitemradio" aria-checked=${String(choice === status)} onClick=${() => { this.setState({ open: false }); desk.setStatus(choice); }}>
            <i class=${`dot is-${choice}`}></i><span>${statusText(choice)}</span>${choice === status ? html`<${Icon} name="check" small />` : null}</button>`)}
        </div>` : null}
      </div>`;
  }
}

function Bar({ desk }) {
  const { waiting, longestMs } = desk.queue;
  return html`
    <header class="bar">
      <img class="bar-mark" src="/ui/icon.svg" width="24" height="24" alt="" />
      <h1 class="only-for-readers">${t('signInTitle')}</h1>
      <${StatusMenu} desk=${desk} />
      <p class=${cls('bar-queue numeric', waiting > 0 && 'is-caution')}>${t('queueStrip', waiting, duration(longestMs))}</p>
      <button class="bar-search" type="button" onClick=${() => desk.openPalette(true)}><${Icon} name="search" small /><span>${t('openCommands')}</span><kbd>Ctrl K</kbd></button>
      <button class="icon-button" type="button" aria-pressed=${String(desk.sound)} aria-label=${t('sound')} title=${t('sound')} onClick=${() => desk.toggle('sound')}><${Icon} name=${desk.sound ? 'bell' : 'mute'} /></button>
      ${desk.account.agent?.role === 'supervisor' ? html`<a class="icon-button" href="/admin/" aria-label=${t('signInAdmin')} title=${t('signInAdmin')}><${Icon} name="chart" /></a>` : null}
      <button class="icon-button" type="button" aria-label=${t('signOut')} title=${t('signOut')} onClick=${() => desk.account.signOut()}><${Icon} name="leave" /></button>
    </header>`;
}

/** What is safe while the connection is gone. Floats over the columns: nothing below moves. */
function Banner({ desk }) {
  const { connection } = desk;
  if (connection.shown === 'closed') {
    return html`<div class="banner is-danger" role="alert"><${Icon} name="alert" small /><span>${t(connection.code === 4501 ? 'supersededDesk' : 'cannotConnect')}</span>
      <button class="button" type="button" onClick=${() => desk.sdk.start()}>${t(connection.code === 4501 ? 'useHere' : 'retry')}</button></div>`;
  }
  if (connection.shown === 'lost') return html`<div class="banner" role="status"><i class="banner-pulse"></i><span>${t('reconnectingSafe', desk.waitingToSend)}</span></div>`;
  if (desk.isLate) return html`<div class="banner" role="status"><i class="banner-pulse"></i><span>${t('stillSending')}</span></div>`;
  if (desk.notice) return html`<div class="banner" role="status"><span>${desk.notice}</span></div>`;
  return null;
}

export class Workspace extends Component {
  componentDidMount() {
    this.off = this.props.desk.subscribe(() => this.setState({}));
    window.addEventListener('keydown', this.#onKey);
  }

  componentWillUnmount() {
    this.off();
    window.removeEventListener('keydown', this.#onKey);
  }

  componentDidUpdate() {
    const { desk } = this.props;
    const unread = desk.badge ? desk.unreadTotal : 0;
    document.title = unread ? `(${unread}) ${t('signInTitle')}` : t('signInTitle');
  }

  #onKey = (event) => {
    const { desk } = this.props;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'k') {
      event.preventDefault();
      desk.openPalette(!desk.palette);
    } else if (event.key === 'Escape' && desk.asking) {
      desk.ask(desk.asking);
    } else if (event.altKey && (event.key === 'ArrowDown' || event.key === 'ArrowUp')) {
      event.preventDefault();
      const rows = desk.rowsOf(desk.tab) ?? [];
      const at = rows.findIndex((state) => state.conversation === desk.active);
      const next = rows[at + (event.key === 'ArrowDown' ? 1 : -1)];
      if (next) desk.go(next.conversation);
    }
  };

  render({ desk }) {
    const entry = desk.entryInFront;
    const view = !desk.active ? 'list' : desk.panel === 'customer' ? 'customer' : 'conversation';
    return html`
      <div class=${`desk is-${view}`}>
        <${Bar} desk=${desk} />
        <${ConversationList} desk=${desk} />
        <main class="desk-main">
          ${entry?.state ? html`<${ConversationView} desk=${desk} entry=${entry} />` : desk.active ? html`<div class="empty" aria-busy="true"></div>`
            : html`<div class="empty"><${Icon} name="chat" /><h2>${t('pickOne')}</h2><p>${t('pickOneHint')}</p></div>`}
        </main>
        ${entry?.state ? html`<${CustomerPanel} desk=${desk} entry=${entry} name=${nameOf(entry.state)} />` : html`<aside class="customer"></aside>`}
        <${Banner} desk=${desk} />
        ${desk.palette ? html`<${Palette} desk=${desk} />` : null}
        ${desk.asking === 'canned' ? html`<${RepliesEditor} desk=${desk} />` : null}
      </div>`;
  }
}
