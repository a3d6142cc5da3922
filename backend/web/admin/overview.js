// One screen that answers: is it all right?
import { html, Component, cls } from '../ui/view.js';
import { Icon } from '../ui/icons.js';
import { t } from '../ui/text.js';
import { clockTime, duration } from '../ui/time.js';
import { Chart } from './chart.js';

const SPANS = { last15: 15 * 60_000, last24: 24 * 3_600_000 };
const WAIT_CAUTION_MS = 120_000;

const Number_ = ({ name, value, note, tone }) => html`<div class="number"><dt>${name}</dt><dd class=${cls('numeric', tone && `is-${tone}`)}>${value}</dd>${note ? html`<dd class="number-note numeric">${note}</dd>` : null}</div>`;

/** How fast people are let in, and what the server's lag leaves of the rate that was set. */
function doorNote({ waiting, frontier, per_1000_s, pace_percent }) {
  if (frontier === 0) return t('doorOpen');
  const pace = pace_percent < 100 ? t('doorPace', pace_percent) : '';
  return [waiting ? t('doorRate', Math.round(per_1000_s / 1000)) : '', pace].filter(Boolean).join(' · ');
}

/** The columns of the ledger, and where the statistics have them. */
const ACCOUNTS = [['toAgents', (ledger) => ledger.to_agent], ['toVisitors', (ledger) => ledger.to_visitor], ['together', (ledger) => ledger]];

/** What needs a look, in words; empty = all is well. */
function concerns(now) {
  const list = [];
  if (!now.ready) list.push(t('serverUnreachable'));
  if (!now.ledger.closed) list.push(t('ledgerOpen', Math.abs(now.ledger.accepted - now.ledger.delivered - now.ledger.pending - now.ledger.expired)));
  if (now.waiting > 0 && now.agents_online === 0) list.push(t('offlineNow'));
  if (now.longest_wait_ms > WAIT_CAUTION_MS) list.push(`${t('longestWait')} ${duration(now.longest_wait_ms)}`);
  return list;
}

export class Overview extends Component {
  state = { span: 'last15' };
  componentDidMount() { this.off = this.props.live.subscribe(() => this.setState({})); }
  componentWillUnmount() { this.off(); }

  render({ live }, { span }) {
    const { now, lostSince } = live;
    if (!now) return html`<p class="admin-none">${lostSince ? t('serverUnreachable') : '\u00a0'}</p>`;
    const bad = concerns(now);
    const points = span === 'last15' ? live.fine : live.coarse;
    const agents = [...now.agents].filter((agent) => !agent.disabled).sort((a, b) => STATUS_ORDER[a.status] - STATUS_ORDER[b.status] || b.open - a.open);
    const { ledger } = now;
    const refused = Object.entries(now.counters?.refused ?? {}).sort((a, b) => b[1] - a[1]);
    return html`
      <header class="admin-head">
        <h1 class=${cls('health', bad.length || lostSince ? 'is-caution' : 'is-positive')}><${Icon} name=${bad.length || lostSince ? 'alert' : 'done'} />${bad.length || lostSince ? t('attention') : t('allRight')}</h1>
        <p>${lostSince ? t('unreachableSince', clockTime(lostSince * 1000)) : bad.join(' · ')}</p>
      </header>
      <dl class="numbers">
        <${Number_} name=${t('connections')} value=${now.visitors_connected + now.agents_connected} note=${`${t('gateways')} ${now.gateways}`} tone=${now.gateways ? '' : 'danger'} />
        <${Number_} name=${t('atTheDoor')} value=${now.admission.waiting.toLocaleString()} note=${doorNote(now.admission)} tone=${now.admission.pace_percent < 100 ? 'caution' : ''} />
        <${Number_} name=${t('queue')} value=${now.waiting} note=${now.waiting ? `${t('longestWait')} ${duration(now.longest_wait_ms)}` : ''} tone=${now.longest_wait_ms > WAIT_CAUTION_MS ? 'caution' : ''} />
        <${Number_} name=${t('chatting')} value=${now.chatting} note=${now.today ? `${t('today')} ${now.today.opened}` : ''} />
        <${Number_} name=${t('agentsOnline')} value=${now.agents_online} tone=${now.waiting && !now.agents_online ? 'danger' : ''} />
      </dl>
      <section class="panel">
        <div class="panel-head"><h2>${t('history')}</h2>
          <div class="segmented" role="group">${Object.keys(SPANS).map((key) => html`<button type="button" aria-pressed=${String(span === key)} onClick=${() => this.setState({ span: key })}>${t(key)}</button>`)}</div></div>
        <div class="charts">
          <${Chart} title=${t('messagesPerSecond')} unit="/s" points=${points} pick=${(point) => point.perSecond} spanMs=${SPANS[span]} />
          <${Chart} title=${t('queue')} unit="" points=${points} pick=${(point) => point.waiting} whole spanMs=${SPANS[span]} />
          <${Chart} title=${t('atTheDoor')} unit="" points=${points} pick=${(point) => point.atTheDoor} whole spanMs=${SPANS[span]} />
          <${Chart} title=${t('letIn')} unit="/s" points=${points} pick=${(point) => point.letIn} spanMs=${SPANS[span]} />
          <${Chart} title=${t('connections')} unit="" points=${points} pick=${(point) => point.connections} whole spanMs=${SPANS[span]} />
          <${Chart} title=${t('chatTime')} unit="ms" points=${points} pick=${(point) => point.chatMs} spanMs=${SPANS[span]} />
          <${Chart} title=${t('chatTimeSlow')} unit="ms" points=${points} pick=${(point) => point.chatSlowMs} spanMs=${SPANS[span]} />
        </div>
      </section>
      <div class="admin-columns">
        <section class="panel">
          <div class="panel-head"><h2>${t('ledger')}</h2></div>
          <p class=${cls('ledger-line', ledger.closed ? 'is-positive' : 'is-danger')}><${Icon} name=${ledger.closed ? 'done' : 'alert'} small />${ledger.closed ? t('ledgerClosed') : t('ledgerOpen', Math.abs(ledger.accepted - ledger.delivered - ledger.pending - ledger.expired))}</p>
          <table class="ledger"><thead><tr><td></td>${ACCOUNTS.map(([name]) => html`<th class="is-number" scope="col">${t(name)}</th>`)}</tr></thead>
            <tbody>${['accepted', 'delivered', 'pending', 'expired'].map((key) => html`<tr><th scope="row">${t(key)}</th>${ACCOUNTS.map(([, account]) => html`<td class="is-number numeric">${account(ledger)[key].toLocaleString()}</td>`)}</tr>`)}</tbody></table>
          <h3 class="ledger-refused">${t('refusedSinceStart')}</h3>
          ${refused.length ? html`<dl class="refused">${refused.map(([reason, count]) => html`<div key=${reason}><dt>${t('refusedReason', reason) ?? reason}</dt><dd class="numeric">${count.toLocaleString()}</dd></div>`)}</dl>` : html`<p class="number-note">${t('refusedNothing')}</p>`}
        </section>
        <section class="panel">
          <div class="panel-head"><h2>${t('agents')}</h2></div>
          <ul class="loads">${agents.map((agent) => html`<li key=${agent.id}><i class=${`dot is-${agent.status}`}></i><span>${agent.name}</span>
            <span class="load" aria-hidden="true"><i class=${agent.open >= agent.capacity ? 'is-full' : ''} ref=${(bar) => bar?.style.setProperty('--part', Math.min(1, agent.open / (agent.capacity || 1)))}></i></span><b class="numeric">${t('capacity', agent.open, agent.capacity)}</b></li>`)}</ul>
        </section>
      </div>`;
  }
}

const STATUS_ORDER = { online: 0, away: 1, offline: 2 };
