// What the visitor sees: header, messages (or the welcome), the waiting card, the composer.
import { html, Component, cls } from '../ui/view.js';
import { Icon } from '../ui/icons.js';
import { t } from '../ui/text.js';
import { Composer } from '../ui/composer.js';
import { MessageList, TypingStrip } from '../ui/messages.js';
import { Door } from './door.js';

const MINUTE_MS = 60_000;

const initialOf = (name) => [...(name || '·').trim()][0] ?? '·';

const Avatar = ({ name, logo }) => html`<span class="avatar" aria-hidden="true">${logo ? html`<img src=${logo} alt="" />` : initialOf(name)}</span>`;

function Header({ visitor }) {
  const { service, current, status } = visitor;
  const chatting = status === 'chatting';
  const who = chatting ? current.state.agent_name || t('agent') : visitor.name || t('chat');
  const online = chatting || service.agentsOnline > 0;
  const minutes = Math.ceil(service.answerMs / MINUTE_MS);
  const line = service.agentsOnline === 0 && !chatting ? t('offlineNow') : chatting ? visitor.name || t('online') : minutes ? t('answersIn', minutes) : online ? t('online') : '';
  return html`
    <header class="chat-header">
      <span class="avatar-with-dot"><${Avatar} name=${who} logo=${chatting ? '' : visitor.logo} /><i class=${cls('dot', online && 'is-online')}></i></span>
      <div class="chat-title"><h1>${who}</h1><p class="numeric">${line || '\u00a0'}</p></div>
      ${status === 'chatting' || status === 'waiting'
        ? html`<button class="icon-button" type="button" aria-label=${t('endChat')} title=${t('endChat')} onClick=${() => visitor.ask(true)}><${Icon} name="leave" /></button>` : null}
      ${visitor.embedded ? html`<button class="icon-button" type="button" aria-label=${t('closeChat')} title=${t('closeChat')} onClick=${() => visitor.minimize()}><${Icon} name="down" /></button>` : null}
    </header>`;
}

/** Over the messages, never pushing them: shown only after two seconds without a connection, or three without an answer. */
function ConnectionLine({ visitor }) {
  const isLost = visitor.connection.shown === 'lost';
  if (!isLost && !visitor.isLate) return null;
  return html`<div class="connection-line" role="status"><i></i><span>${t(isLost ? 'reconnecting' : 'stillSending')}</span></div>`;
}

/** The connection ended for good, or never began: what to do stands above the composer. */
function Stopped({ visitor }) {
  const { connection, failing } = visitor;
  const elsewhere = connection.code === 4501;
  if (connection.shown !== 'closed' && (failing < 2 || visitor.sdk)) return null;
  return html`<div class="ask" role="status"><span>${t(elsewhere ? 'disconnected' : 'cannotConnect')}</span>
    <button type="button" class="button" onClick=${() => (visitor.sdk ? visitor.comeBack() : visitor.retryNow?.())}>${t(elsewhere ? 'useHere' : 'retry')}</button></div>`;
}

function WaitingCard({ visitor }) {
  const { queue } = visitor;
  if (visitor.status !== 'waiting') return null;
  const hint = t(visitor.current?.timeline.messages.some((message) => message.content === 'text') ? 'waitingHintWritten' : 'waitingHint');
  if (visitor.service.agentsOnline === 0) {
    return html`<section class="waiting-card" aria-live="polite"><${Icon} name="moon" /><p>${t('offlineWaiting')}</p></section>`;
  }
  const minutes = queue?.etaMs ? Math.ceil(queue.etaMs / MINUTE_MS) : 0;
  return html`
    <section class="waiting-card is-queue" aria-live="polite">
      <div class="waiting-line numeric"><strong>${queue ? t('ahead', queue.position - 1) : t('systemQueued')}</strong>${minutes ? html`<span>${t('aheadWait', minutes)}</span>` : null}</div>
      <div class="waiting-bar" role="progressbar" aria-label=${t('placeInLine')} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.round((queue?.progress ?? 0.06) * 100)}>
        <i ref=${(bar) => bar?.style.setProperty('--progress', queue?.progress ?? 0.06)}></i></div>
      <p>${hint}</p>
    </section>`;
}

function Welcome({ visitor }) {
  return html`
    <section class="welcome">
      <${Avatar} name=${visitor.name} logo=${visitor.logo} />
      <p class="welcome-greeting">${visitor.greeting || t('greeting')}</p>
      ${visitor.nobodyHere && !visitor.status ? html`<p class="welcome-offline">${t('offlineExplain')}</p>` : null}
    </section>`;
}

export class Screen extends Component {
  componentDidMount() {
    const { visitor } = this.props;
    visitor.subscribe(() => this.setState({}));
    visitor.onVisible = () => {
      if (this.list?.pinned) visitor.seen();
      if (visitor.embedded && matchMedia('(pointer: fine)').matches) this.composer?.focus();
    };
    visitor.onVisible();
    if (visitor.embedded) window.addEventListener('keydown', (event) => { if (event.key === 'Escape' && !event.isComposing) (visitor.asking ? visitor.ask(false) : visitor.minimize()); });
  }

  render({ visitor }) {
    const line = visitor.line;
    const current = visitor.current;
    const rows = visitor.rows(line);
    const closed = visitor.status === 'closed';
    const fresh = rows.length === 0;
    const first = line[0];
    return html`
      <main class="chat">
        <${Header} visitor=${visitor} />
        <div class="chat-middle">
          <${ConnectionLine} visitor=${visitor} />
          <${MessageList} id="visitor" rows=${rows} side="visitor" ref=${(list) => { this.list = list; }} showNames
            headerKey=${`${visitor.name}|${visitor.greeting}|${visitor.nobodyHere && !visitor.status}|${!first || first.timeline.complete}`}
            header=${!first || first.timeline.complete ? html`<${Welcome} visitor=${visitor} />` : null}
            loadingEarlier=${Boolean(first?.earlier)} onReachTop=${() => first && visitor.loadEarlier(first)}
            onFailed=${(item) => visitor.resend(item)} onDiscard=${(item) => visitor.discard(item)} onSeen=${() => visitor.seen()} />
        </div>
        ${visitor.connection.wait && visitor.connection.shown !== 'closed' ? html`<${Door} wait=${visitor.connection.wait} written=${visitor.outbox.length > 0} />` : html`<${WaitingCard} visitor=${visitor} />`}
        <${Stopped} visitor=${visitor} />
        <${TypingStrip} name=${current?.typing?.name} active=${Boolean(current?.typing)} />
        ${visitor.asking ? html`
          <div class="ask" role="alertdialog" aria-label=${t('endChatAsk')}><span>${t('endChatAsk')}</span>
            <button class="button is-quiet" type="button" onClick=${() => visitor.ask(false)}>${t('keepChatting')}</button>
            <button class="button is-danger" type="button" onClick=${() => visitor.end()}>${t('endChat')}</button></div>` : null}
        <${Composer} id="visitor" ref=${(composer) => { this.composer = composer; }} draft=${visitor.draft} placeholder=${t(closed ? 'composerClosed' : 'composer')}
          onDraft=${(text) => visitor.setDraft(text)} onSend=${(text) => visitor.say(text)} onTyping=${(active) => visitor.typing(active)}
          above=${fresh && !first && visitor.questions.length ? html`<ul class="questions" aria-label=${t('questions')}>
            ${visitor.questions.map((question) => html`<li><button type="button" onClick=${() => visitor.say(question)}>${question}</button></li>`)}</ul>` : null} />
      </main>`;
  }
}
