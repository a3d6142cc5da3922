// The conversation in front: head with actions, messages, composer with canned replies.
import { html, Component, cls } from '../ui/view.js';
import { Icon } from '../ui/icons.js';
import { Since } from '../ui/since.js';
import { t } from '../ui/text.js';
import { Composer } from '../ui/composer.js';
import { MessageList, TypingStrip } from '../ui/messages.js';
import { Face, nameOf } from './list.js';

const REPLIES_SHOWN_MAX = 8;

function Head({ desk, entry }) {
  const { state } = entry;
  const mine = desk.isMineState(state);
  const supervisor = desk.account.agent?.role === 'supervisor';
  const open = state.status !== 'closed';
  return html`
    <header class="head">
      <button class="icon-button head-back" type="button" aria-label=${t('back')} onClick=${() => desk.go('')}><${Icon} name="back" /></button>
      <${Face} state=${state} />
      <div class="head-text"><h2>${nameOf(state)}</h2>
        <p>${state.status === 'waiting' ? t('waitingForAgent') : state.status === 'closed' ? t('closed') : html`<i class=${cls('dot', state.visitor_online && 'is-online')}></i>${t(state.visitor_online ? 'onlineNow' : 'leftPage')}${mine ? '' : ` · ${state.agent_name}`}`}</p></div>
      ${state.status === 'chatting' && state.unanswered_since_us ? html`<${Since} us=${state.unanswered_since_us} label=${(time) => t('unanswered', time)} />` : null}
      ${open && !mine && (state.status === 'waiting' || supervisor) ? html`<button class="button is-primary" type="button" onClick=${() => desk.take()}>${t('take')}</button>` : null}
      ${open && (mine || (supervisor && state.status === 'chatting')) ? html`<button class="button head-action" type="button" aria-expanded=${String(desk.asking === 'transfer')} aria-label=${t('transfer')} onClick=${() => desk.ask('transfer')}><${Icon} name="transfer" small /><span>${t('transfer')}</span></button>` : null}
      ${open && (mine || supervisor) ? html`<button class="button head-action" type="button" aria-expanded=${String(desk.asking === 'close')} aria-label=${t('close')} onClick=${() => desk.ask('close')}><${Icon} name="done" small /><span>${t('close')}</span></button>` : null}
      <button class="icon-button head-customer" type="button" aria-label=${t('showCustomer')} title=${t('showCustomer')} onClick=${() => desk.go(entry.id, desk.panel === 'customer' ? '' : 'customer')}><${Icon} name="info" /></button>
    </header>`;
}

/** Asked once, in place: no dialog over the conversation that the answer depends on. */
class Ask extends Component {
  componentDidMount() { this.base?.querySelector('button')?.focus({ preventScroll: true }); }

  render({ desk }) {
    if (desk.asking === 'close') {
      return html`<div class="ask" role="group" aria-label=${t('closeAsk')}><span>${t('closeAsk')}</span>
        <button class="button is-quiet" type="button" onClick=${() => desk.ask('close')}>${t('cancel')}</button>
        <button class="button is-danger" type="button" onClick=${() => desk.close()}>${t('closeIt')}</button></div>`;
    }
    const others = [...desk.agents.values()].filter((agent) => agent.id !== desk.id && agent.status === 'online').sort((a, b) => a.open / (a.capacity || 1) - b.open / (b.capacity || 1));
    return html`<div class="ask is-transfer" role="group" aria-label=${t('transferTo')}><span>${others.length ? t('transferTo') : t('noOtherAgents')}</span>
      ${others.slice(0, 12).map((agent) => html`<button class="button" type="button" disabled=${agent.open >= agent.capacity} onClick=${() => desk.transfer(agent.id)}><i class="dot is-online"></i>${agent.name}<small class="numeric">${t('capacity', agent.open, agent.capacity)}</small></button>`)}
      <button class="button" type="button" onClick=${() => desk.transfer('')}>${t('transferQueue')}</button>
      <button class="button is-quiet" type="button" onClick=${() => desk.ask('transfer')}>${t('cancel')}</button></div>`;
  }
}

export class ConversationView extends Component {
  state = { pick: 0 };

  componentDidMount() {
    this.props.desk.onVisible = () => { if (this.list?.pinned) this.props.desk.seen(); };
    if (matchMedia('(pointer: fine)').matches) this.composer?.focus();
  }

  componentDidUpdate(before) {
    if (before.entry.id !== this.props.entry.id) {
      this.setState({ pick: 0 });
      if (matchMedia('(pointer: fine)').matches) this.composer?.focus();
    }
  }

  /** Canned replies that the draft asks for: '/' alone lists all. */
  #matches(draft) {
    if (!draft.startsWith('/') || draft.includes('\n')) return null;
    const query = draft.slice(1).trim().toLowerCase();
    return this.props.desk.replies.filter((reply) => reply.shortcut.toLowerCase().includes(query) || reply.text.toLowerCase().includes(query)).slice(0, REPLIES_SHOWN_MAX);
  }

  #choose(reply) {
    this.props.desk.setDraft(this.props.entry.id, reply.text);
    this.setState({ pick: 0 });
    this.composer?.focus();
  }

  #onKey = (event) => {
    const { desk, entry } = this.props;
    const matches = this.#matches(desk.draft(entry.id));
    if (!matches) return false;
    const { pick } = this.state;
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      this.setState({ pick: (pick + (event.key === 'ArrowDown' ? 1 : -1) + matches.length) % Math.max(matches.length, 1) });
      return true;
    }
    if ((event.key === 'Enter' || event.key === 'Tab') && matches[pick]) {
      this.#choose(matches[pick]);
      return true;
    }
    if (event.key === 'Escape') { desk.setDraft(entry.id, ''); return true; }
    return false;
  };

  #replies(matches) {
    if (!matches) return null;
    const { desk } = this.props;
    return html`
      <div class="replies">
        <div class="replies-head"><span>${t('cannedReplies')}</span><button class="button is-quiet" type="button" onClick=${() => desk.ask('canned')}>${t('editCanned')}</button></div>
        <ul id="canned-replies" role="listbox" aria-label=${t('cannedReplies')}>
          ${matches.map((reply, i) => html`<li id=${`reply-${i}`} role="option" aria-selected=${String(i === this.state.pick)} class=${i === this.state.pick ? 'is-picked' : ''} onPointerDown=${(event) => { event.preventDefault(); this.#choose(reply); }}>
            <b>/${reply.shortcut}</b><span>${reply.text}</span></li>`)}
        </ul>
        ${matches.length ? null : html`<p>${t('cannedEmpty')}</p>`}
      </div>`;
  }

  render({ desk, entry }, { pick }) {
    const { state } = entry;
    const mine = desk.isMineState(state);
    const draft = desk.draft(entry.id);
    const matches = mine ? this.#matches(draft) : null;
    const closed = state.status === 'closed';
    return html`
      <${Head} desk=${desk} entry=${entry} />
      ${desk.asking === 'close' || desk.asking === 'transfer' ? html`<${Ask} key=${desk.asking} desk=${desk} />` : null}
      <${MessageList} id=${entry.id} side="agent" rows=${desk.rows([entry], (item) => item.conversation === entry.id)} showNames ref=${(list) => { this.list = list; }}
        loadingEarlier=${entry.earlier} onReachTop=${() => desk.loadEarlier(entry)} onFailed=${(item) => desk.resend(item)} onDiscard=${(item) => desk.discard(item)} onSeen=${() => desk.seen()} />
      <${TypingStrip} name=${entry.typing ? nameOf(state) : ''} active=${Boolean(entry.typing)} />
      ${mine ? html`<${Composer} id=${entry.id} draft=${draft} placeholder=${t(matchMedia('(max-width: 760px)').matches ? 'composerDeskPhone' : 'composerDesk')} ref=${(composer) => { this.composer = composer; }}
          onDraft=${(text) => desk.setDraft(entry.id, text)} onSend=${(text) => desk.say(text)} onTyping=${(active) => desk.sdk?.typing(entry.id, active)} onKey=${this.#onKey}
          controls="canned-replies" expanded=${Boolean(matches)} active=${matches?.[pick] ? `reply-${pick}` : undefined} above=${this.#replies(matches)} />`
        : html`<p class="read-along">${t(closed ? 'composerDeskClosed' : 'viewOnly')}</p>`}`;
  }
}
