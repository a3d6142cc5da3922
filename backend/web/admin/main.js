// The administration: is it all right, who works, what the widgets look like, what can be taken out.
import { html, render, Component } from '../ui/view.js';
import { Account, SignIn } from '../ui/account.js';
import { Icon } from '../ui/icons.js';
import { setLanguage, t } from '../ui/text.js';
import { Live } from './live.js';
import { Overview } from './overview.js';
import { Agents } from './agents.js';
import { Widgets } from './widgets.js';
import { Export } from './export.js';

setLanguage(new URLSearchParams(location.search).get('lang'));
document.title = t('signInAdmin');

const PAGES = { overview: Overview, agents: Agents, widgets: Widgets, exports: Export };
const ICONS = { overview: 'chart', agents: 'people', widgets: 'chat', exports: 'download' };

class App extends Component {
  account = new Account();
  live = null;

  componentDidMount() {
    this.account.subscribe(() => this.setState({}));
    window.addEventListener('hashchange', () => this.setState({}));
  }

  render() {
    if (!this.account.token) {
      this.live?.stop();
      this.live = null;
      return html`<${SignIn} account=${this.account} title=${t('signInAdmin')} />`;
    }
    if (this.account.agent?.role !== 'supervisor') {
      return html`<main class="sign-in"><div class="sign-in-card"><p>${t('notSupervisor')}</p><button class="button" type="button" onClick=${() => this.account.signOut()}>${t('signOut')}</button></div></main>`;
    }
    this.live ??= new Live(this.account).start();
    const name = location.hash.slice(2) in PAGES ? location.hash.slice(2) : 'overview';
    return html`
      <div class="admin">
        <nav class="admin-nav" aria-label=${t('signInAdmin')}>
          <a class="admin-brand" href="#/"><img src="/ui/icon.svg" width="24" height="24" alt="" /><span>Tidegate</span></a>
          ${Object.keys(PAGES).map((page) => html`<a href=${`#/${page}`} aria-current=${page === name ? 'page' : undefined}><${Icon} name=${ICONS[page]} /><span>${t(page)}</span></a>`)}
          <span class="admin-space"></span>
          <a href="/agent/"><${Icon} name="inbox" /><span>${t('signInTitle')}</span></a>
          <button type="button" onClick=${() => this.account.signOut()}><${Icon} name="leave" /><span>${t('signOut')}</span></button>
        </nav>
        <main class="admin-main"><${PAGES[name]} account=${this.account} live=${this.live} /></main>
      </div>`;
  }
}

render(html`<${App} />`, document.getElementById('app'));
