// The list of messages: grouped bubbles, date separators, ticks, system lines, the pill for what came while the reader
// looked further up. It never jumps: pinned to the bottom it stays there, elsewhere the eye's line stays where it is.
import { html, Component, cls } from './view.js';
import { Icon, Tick } from './icons.js';
import { t } from './text.js';
import { richText } from './rich.js';
import { clockTime, dayName, exactTime } from './time.js';

const PINNED_PX = 48;

const TICK_LABELS = { waiting: 'tickWaiting', sent: 'tickSent', delivered: 'tickDelivered', read: 'tickRead' };

/** What a system message says to this side. */
export function systemText(message, side) {
  const desk = side === 'agent';
  switch (message.system) {
    case 'queued': return t(desk ? 'systemQueuedDesk' : 'systemQueued');
    case 'agent_joined': return t('systemJoined', message.sender_name || message.text);
    case 'transferred': return t('systemTransferred', message.sender_name || message.text);
    case 'requeued': return t(desk ? 'systemRequeuedDesk' : 'systemRequeued');
    case 'closed': return !desk && message.close_reason === 'by_visitor' ? t('systemClosedYou') : t('systemClosed', message.close_reason || 'none');
    default: return message.text;
  }
}

/** Why it wasn't sent, where a person can do something about it, and what to do. */
function failureText(reason) {
  const why = reason && t('failedReason', reason);
  return why ? `${why} · ${t('retry')}` : t('sendAgain');
}

/** Whose a row is, for somebody who sees it; '' for one's own. A bot's is on the agents' side and still nobody's own. */
function authorOf(row) {
  if (row.role === 'bot') return t('bot');
  return row.own ? '' : row.name;
}

class Bubble extends Component {
  shouldComponentUpdate(next) {
    const a = this.props.row;
    const b = next.row;
    return a.key !== b.key || a.state !== b.state || a.starts !== b.starts || a.ends !== b.ends || a.showTick !== b.showTick || a.text !== b.text || a.name !== b.name || a.reason !== b.reason;
  }

  render({ row, onFailed, onDiscard, showName }) {
    const failed = row.state === 'failed';
    const author = authorOf(row);
    const label = author || t(row.own ? 'you' : row.role === 'visitor' ? 'visitor' : 'agent');
    return html`
      <li class=${cls('message', row.own ? 'is-own' : 'is-theirs', row.starts && 'starts', row.ends && 'ends', failed && 'is-failed')} data-seq=${row.seq || undefined}>
        ${showName && row.starts && author ? html`<span class="message-name" aria-hidden="true">${author}</span>` : null}
        <div class="message-line">
          ${row.own ? html`<span class="message-tick">${failed
            ? html`<button class="message-retry" type="button" aria-label=${t('sendAgain')} onClick=${() => onFailed?.(row.item)}><${Icon} name="alert" small /></button>`
            : row.showTick ? html`<${Tick} state=${row.state} label=${t(TICK_LABELS[row.state])} />` : null}</span>` : null}
          <p class="bubble" title=${exactTime(row.at)}><span class="only-for-readers">${label}: </span>${richText(row.text)}</p>
        </div>
        ${failed ? html`<span class="message-failure"><button class="message-failed" type="button" onClick=${() => onFailed?.(row.item)}>${failureText(row.reason)}</button><button class="message-failed is-weak" type="button" onClick=${() => onDiscard?.(row.item)}>${t('discard')}</button></span>`
          : row.ends ? html`<time class="message-time numeric" datetime=${new Date(row.at / 1000).toISOString()}>${clockTime(row.at)}</time>` : null}
      </li>`;
  }
}

/**
 * Props: rows, side ('visitor' | 'agent'), header (drawn above the first message) and headerKey (it changed), loadingEarlier, onReachTop(),
 * onFailed(item), onDiscard(item), onSeen(seq) when the newest row is on screen, showNames.
 */
export class MessageList extends Component {
  state = { unseen: 0, spoken: '' };
  #box = null;
  #pinned = true;
  #observer = null;

  shouldComponentUpdate(next, state) {
    const now = this.props;
    return next.rows !== now.rows || next.id !== now.id || next.loadingEarlier !== now.loadingEarlier || next.headerKey !== now.headerKey || state !== this.state;
  }

  componentDidMount() {
    this.#toBottom();
    this.#observer = new ResizeObserver(() => this.#pinned && this.#toBottom());
    this.#observer.observe(this.#box);
    if (this.#box.firstElementChild) this.#observer.observe(this.#box.firstElementChild);
    this.#seen();
  }

  componentWillUnmount() {
    this.#observer?.disconnect();
  }

  getSnapshotBeforeUpdate() {
    const box = this.#box;
    return { top: box.scrollTop, height: box.scrollHeight };
  }

  componentDidUpdate(before, _state, snapshot) {
    const old = before.rows;
    const rows = this.props.rows;
    if (before.id !== this.props.id) {
      this.#pinned = true;
      this.#toBottom();
      if (this.state.unseen) this.setState({ unseen: 0 });
      return;
    }
    if (old === rows) return;
    const fresh = newRows(old, rows);
    const spoken = fresh.filter((row) => row.type === 'system' || !row.own).at(-1);
    if (fresh.some((row) => row.own && row.item)) this.#pinned = true; // what one writes oneself is shown
    if (this.#pinned) {
      this.#toBottom();
      this.#seen();
    } else {
      const firstOld = old.find((row) => row.type !== 'day');
      const firstNew = rows.find((row) => row.type !== 'day');
      if (firstOld && firstNew && firstOld.key !== firstNew.key) this.#box.scrollTop = snapshot.top + this.#box.scrollHeight - snapshot.height;
      const arrived = fresh.filter((row) => row.type === 'message' && !row.own).length;
      if (arrived) this.setState({ unseen: this.state.unseen + arrived });
    }
    if (spoken && old.length) {
      const text = spoken.type === 'system' ? systemText(spoken.message, this.props.side) : t('says', authorOf(spoken) || t('agent'), spoken.text);
      if (text !== this.state.spoken) this.setState({ spoken: text });
    }
  }

  #toBottom() {
    this.#box.scrollTop = this.#box.scrollHeight;
  }

  #seen() {
    const last = this.props.rows.at(-1);
    if (last && this.#pinned) this.props.onSeen?.();
  }

  #onScroll = () => {
    const box = this.#box;
    const pinned = box.scrollHeight - box.scrollTop - box.clientHeight < PINNED_PX;
    if (pinned !== this.#pinned) {
      this.#pinned = pinned;
      if (pinned) {
        if (this.state.unseen) this.setState({ unseen: 0 });
        this.#seen();
      }
    }
    if (box.scrollTop < 160) this.props.onReachTop?.();
  };

  /** True when the newest message is on the screen. */
  get pinned() { return this.#pinned; }

  #showNewest = () => {
    this.#pinned = true;
    this.#box.scrollTo({ top: this.#box.scrollHeight, behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth' });
    this.setState({ unseen: 0 });
    this.#seen();
  };

  render({ rows, header, side, onFailed, onDiscard, showNames, loadingEarlier }, { unseen, spoken }) {
    return html`
      <div class="messages-frame">
        <div class="messages" tabindex="0" role="region" aria-label=${t('messages')} ref=${(box) => { if (box) this.#box = box; }} onScroll=${this.#onScroll}>
          <div class="messages-inner">
            ${header}
            <ol class="message-rows">
              ${rows.map((row) => row.type === 'message'
                ? html`<${Bubble} key=${row.key} row=${row} onFailed=${onFailed} onDiscard=${onDiscard} showName=${showNames} />`
                : row.type === 'day'
                  ? html`<li key=${row.key} class="day-line"><span>${dayName(row.at)}</span></li>`
                  : html`<li key=${row.key} class="system-line" title=${exactTime(row.message.at_us)}>${systemText(row.message, side)}</li>`)}
            </ol>
          </div>
        </div>
        ${loadingEarlier ? html`<p class="earlier-note" role="status">${t('loadingEarlier')}</p>` : null}
        ${unseen ? html`<button class="new-pill numeric" type="button" onClick=${this.#showNewest}><${Icon} name="down" small />${t('newMessages', unseen)}</button>` : null}
        <div class="only-for-readers" aria-live="polite">${spoken}</div>
      </div>`;
  }
}

/** Rows of `rows` that stand after the last row of `old`. */
function newRows(old, rows) {
  const known = new Set(old.map((row) => row.key));
  const fresh = [];
  for (let i = rows.length - 1; i >= 0 && !known.has(rows[i].key); i -= 1) fresh.unshift(rows[i]);
  return fresh;
}

/** Three dots and a name, in a strip that is always there, so nothing moves when somebody types. */
export const TypingStrip = ({ name, active }) => html`
  <div class="typing-strip" aria-live="off">
    ${active ? html`<span class="typing-dots" aria-hidden="true"><i></i><i></i><i></i></span><span>${t('typing', name)}</span>` : null}
  </div>`;
