// The agent console's start: sign in, then the desk.
import { html, render, Component } from '../ui/view.js';
import { Account, SignIn } from '../ui/account.js';
import { setLanguage, t } from '../ui/text.js';
import { Desk } from './desk.js';
import { Workspace } from './workspace.js';

setLanguage(new URLSearchParams(location.search).get('lang'));
document.title = t('signInTitle');

class App extends Component {
  account = new Account();
  desk = null;

  componentDidMount() { this.account.subscribe(() => this.setState({})); }

  render() {
    if (!this.account.token) {
      this.desk?.leave();
      this.desk = null;
      return html`<${SignIn} account=${this.account} title=${t('signInTitle')} />`;
    }
    this.desk ??= new Desk(this.account).start();
    return html`<${Workspace} desk=${this.desk} />`;
  }
}

render(html`<${App} />`, document.getElementById('app'));
