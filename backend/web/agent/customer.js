// Who one is talking to: profile, attributes, earlier chats.
import { html } from '../ui/view.js';
import { Icon } from '../ui/icons.js';
import { t } from '../ui/text.js';
import { exactTime, shortTime } from '../ui/time.js';
import { Face } from './list.js';

const Fact = ({ name, children, title }) => html`<div class="fact"><dt>${name}</dt><dd title=${title}>${children || '\u00a0'}</dd></div>`;

/** Where the visitor is; an address becomes a link, but only http(s). */
const pageOf = (page) => (/^https?:\/\//.test(page) ? html`<a href=${page} target="_blank" rel="noopener noreferrer nofollow">${page.replace(/^https?:\/\//, '')}</a>` : page);

export function CustomerPanel({ desk, entry, name }) {
  const { state } = entry;
  const detail = desk.details.get(entry.id);
  const visitor = detail?.visitor ?? {};
  const attributes = Object.entries(visitor.attributes ?? {});
  return html`
    <aside class="customer" aria-label=${t('customer')}>
      <header class="customer-head"><button class="icon-button customer-back" type="button" aria-label=${t('back')} onClick=${() => desk.go(entry.id)}><${Icon} name="back" /></button>
        <${Face} state=${state} large /><h2>${name}</h2></header>
      <dl class="facts">
        <${Fact} name=${t('page')}>${pageOf(state.page || visitor.page || '')}<//>
        <${Fact} name=${t('language')}>${visitor.locale}<//>
        <${Fact} name=${t('firstSeen')} title=${exactTime(visitor.created_at_us)}>${visitor.created_at_us ? shortTime(visitor.created_at_us) : ''}<//>
        <${Fact} name=${t('conversationStarted')} title=${exactTime(state.opened_at_us)}>${shortTime(state.opened_at_us)}<//>
        <${Fact} name=${t('visitorId')}><code>${state.visitor.slice(-8)}</code><//>
      </dl>
      ${attributes.length ? html`<h3>${t('attributes')}</h3><dl class="facts">${attributes.map(([key, value]) => html`<${Fact} name=${key}>${String(value)}<//>`)}</dl>` : null}
      ${detail ? html`<h3>${t('earlierChats')}</h3>` : null}
      ${!detail ? null : detail.earlier.length ? html`<ul class="earlier">${detail.earlier.map((earlier) => html`<li><button type="button" onClick=${() => desk.go(earlier.conversation)}>
          <time class="numeric" title=${exactTime(earlier.opened_at_us)}>${shortTime(earlier.opened_at_us)}</time><span>${earlier.last_text || t('closed')}</span></button></li>`)}</ul>`
        : html`<p class="customer-none">${t('noEarlierChats')}</p>`}
    </aside>`;
}
