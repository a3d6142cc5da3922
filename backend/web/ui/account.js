// Who is signed in at the consoles: login, the kept token, the sign-in form. One account for /agent/ and /admin/.
import { html, Component, Model } from './view.js';
import { api, ApiError } from './api.js';
import { localStore, readJson } from './store.js';
import { t } from './text.js';

const store = localStore('tidegate.account.');

export class Account extends Model {
  session = readJson(store, 'session'); // { token, agent: {id, name, role, capacity}, ws_url, expires_at (s) }
  error = '';
  busy = false;

  constructor() {
    super();
    if (this.session && this.session.expires_at * 1000 < Date.now()) this.#keep(null);
  }

  get token() { return this.session?.token ?? ''; }
  get agent() { return this.session?.agent ?? null; }

  #keep(session) {
    this.session = session;
    if (session) store.set('session', JSON.stringify(session));
    else store.remove('session');
    this.changed();
  }

  async signIn(user, password) {
    this.busy = true;
    this.error = '';
    this.changed();
    try {
      this.#keep(await api('/api/agent/login', { body: { user, password } }));
    } catch (error) {
      this.error = !(error instanceof ApiError) || error.status === 0 ? t('serverUnreachable')
        : error.status === 429 ? t('tooMany', error.retrySeconds || 10) : error.status === 401 || error.status === 403 ? t('wrongPassword') : error.message;
    } finally {
      this.busy = false;
      this.changed();
    }
  }

  signOut() { this.#keep(null); }

  /** REST as this account; a refused token signs out. */
  async ask(path, options = {}) {
    try {
      return await api(path, { ...options, token: this.token });
    } catch (error) {
      if (error.status === 401) this.signOut();
      throw error;
    }
  }
}

export class SignIn extends Component {
  componentDidMount() { this.off = this.props.account.subscribe(() => this.setState({})); }
  componentWillUnmount() { this.off(); }

  #submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    this.props.account.signIn(String(form.get('user')).trim(), String(form.get('password')));
  };

  render({ account, title }) {
    return html`
      <main class="sign-in">
        <form class="sign-in-card" onSubmit=${this.#submit}>
          <img src="/ui/icon.svg" width="40" height="40" alt="" />
          <h1>${title}</h1>
          <label class="field"><span>${t('user')}</span><input class="input" name="user" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus /></label>
          <label class="field"><span>${t('password')}</span><input class="input" name="password" type="password" autocomplete="current-password" required /></label>
          <p class="sign-in-error" role="alert">${account.error}</p>
          <button class="button is-primary" type="submit" disabled=${account.busy}>${t('signIn')}</button>
          <p class="sign-in-hint">${t('signInHint')}</p>
        </form>
      </main>`;
  }
}
