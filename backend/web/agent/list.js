// The list of conversations: tabs with counts, and rows whose loudest thing is the time without an answer. It keeps its
// order while the pointer is over it.
import { html, Component, cls } from '../ui/view.js';
import { Icon } from '../ui/icons.js';
import { Since } from '../ui/since.js';
import { t } from '../ui/text.js';
import { shortTime, exactTime } from '../ui/time.js';

const TABS = ['mine', 'waiting', 'all'];

export const nameOf = (state) => state.visitor_name || t('anonymous', state.visitor.slice(-4) || '…');
export const hueOf = (id) => parseInt(id.slice(-4) || '0', 16) % 360;

/** A round initial, coloured by the visitor's id so that neighbours are told apart. */
export const Face = ({ state, large }) => html`<span class=${cls('avatar face', large && 'is-large')} aria-hidden="true" ref=${(face) => face?.style.setProperty('--hue', hueOf(state.visitor))}>${[...nameOf(state)].at(state.visitor_name ? 0 : -1)}</span>`;

function Row({ desk, state }) {
  const unread = desk.unreadOf(state.conversation);
  const draft = desk.active === state.conversation ? '' : desk.draft(state.conversation);
  const name = nameOf(state);
  return html`
    <li class=${cls('row', desk.active === state.conversation && 'is-active', unread > 0 && 'is-unread', desk.arrived.has(state.conversation) && 'is-new')}>
      <button type="button" class="row-button" aria-current=${desk.active === state.conversation ? 'true' : undefined} onClick=${() => desk.go(state.conversation)}>
        <span class="row-face"><${Face} state=${state} /><i class=${cls('dot', state.visitor_online && 'is-online')}></i></span>
        <span class="row-text">
          <span class="row-line"><strong>${name}</strong>
            ${state.status === 'waiting' ? html`<${Since} us=${state.opened_at_us} label=${(time) => t('waitingFor', time)} />`
              : state.status === 'chatting' && state.unanswered_since_us ? html`<${Since} us=${state.unanswered_since_us} label=${(time) => t('unanswered', time)} />`
                : html`<time class="numeric" title=${exactTime(state.last_at_us)}>${shortTime(state.last_at_us || state.opened_at_us)}</time>`}</span>
          <span class="row-line"><span class="row-last">${draft ? html`<em>${t('draft')}</em> ${draft}` : state.last_text || '\u00a0'}</span>
            ${unread ? html`<b class="count numeric" aria-label=${t('unread', unread)}>${unread > 99 ? '99+' : unread}</b>` : state.status === 'closed' ? html`<small>${t('closed')}</small>` : null}</span>
        </span>
      </button>
    </li>`;
}

function Empty({ desk }) {
  const offline = desk.tab === 'mine' && desk.me.status && desk.me.status !== 'online';
  const key = { mine: 'emptyMine', waiting: 'emptyWaiting', all: 'emptyAll' }[desk.tab];
  return html`
    <div class="empty is-list"><${Icon} name="inbox" /><h2>${t(key)}</h2><p>${t(offline ? 'emptyMineOffline' : `${key}Hint`)}</p>
      ${offline ? html`<button class="button is-primary" type="button" onClick=${() => desk.setStatus('online')}>${t('goOnline')}</button>`
        : desk.tab === 'mine' ? html`<a class="button" href="/" target="_blank" rel="noopener">${t('openVisitorPage')}</a>` : null}
    </div>`;
}

export class ConversationList extends Component {
  #order = null; // ids, while the pointer is over the list

  #freeze = () => { this.#order = (this.props.desk.rowsOf(this.props.desk.tab) ?? []).map((state) => state.conversation); };
  #thaw = () => { this.#order = null; this.setState({}); };

  #onKey = (event) => {
    if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return;
    const buttons = [...this.base.querySelectorAll('.row-button')];
    const at = buttons.indexOf(document.activeElement);
    if (at < 0) return;
    event.preventDefault();
    buttons[Math.min(Math.max(at + (event.key === 'ArrowDown' ? 1 : -1), 0), buttons.length - 1)].focus();
  };

  #rows(desk) {
    const rows = desk.rowsOf(desk.tab);
    if (!rows || !this.#order) return rows;
    const place = new Map(this.#order.map((id, i) => [id, i]));
    return [...rows].sort((a, b) => (place.get(a.conversation) ?? Infinity) - (place.get(b.conversation) ?? Infinity));
  }

  render({ desk }) {
    const rows = this.#rows(desk);
    return html`
      <section class="list" aria-label=${t('conversations')} onKeyDown=${this.#onKey}>
        <div class="tabs" role="tablist">
          ${TABS.map((tab) => html`<button type="button" role="tab" id=${`tab-${tab}`} aria-controls="list-rows" aria-selected=${String(desk.tab === tab)} tabindex=${desk.tab === tab ? 0 : -1}
            onClick=${() => desk.show(tab)} onKeyDown=${(event) => {
              const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
              if (!step) return;
              const next = TABS[(TABS.indexOf(tab) + step + TABS.length) % TABS.length];
              desk.show(next);
              document.getElementById(`tab-${next}`).focus();
            }}>${t(tab)}<span class=${cls('tab-count numeric', tab === 'waiting' && desk.count(tab) > 0 && 'is-caution')}>${desk.count(tab)}</span></button>`)}
        </div>
        <div class="list-rows" id="list-rows" role="tabpanel" aria-labelledby=${`tab-${desk.tab}`} tabindex="-1" onPointerEnter=${this.#freeze} onPointerLeave=${this.#thaw}>
          ${rows === null ? null : rows.length === 0 ? html`<${Empty} desk=${desk} />` : html`<ul>${rows.map((state) => html`<${Row} key=${state.conversation} desk=${desk} state=${state} />`)}</ul>`}
        </div>
      </section>`;
  }
}
